"""Attention over a packed batch on a GPU: one call of torch's varlen kernel a layer, however many examples there are.

The kernel aligns its causal mask to the last key: a segment's queries are those of its last keys, and what stands
before them is seen by all. So segments that continue shared ones need only their keys gathered, in the order in which
they are seen; a prefix that examples share is computed once here as on a CPU.

Axes: B batch (1), H query heads, G key and value heads, T tokens of the row, K gathered keys, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from luthier.trainer.dataset.packing import Segment

_MAX_HEAD_DIM = 256
_HEAD_DIM_STEP = 8
_AMPERE = (8, 0)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Where each segment's queries and keys begin and end, made once a batch. The names are those of transformers.

    `cu_seq_lens_*` are cumulative, int32 [segments + 1]. `gathered_K` names the places of the keys in the row; None
    where they lie there as they are seen.
    """

    cu_seq_lens_q: Tensor
    cu_seq_lens_k: Tensor
    max_length_q: int
    max_length_k: int
    gathered_K: Tensor | None

    def arguments(self) -> dict[str, Any]:
        """The fields as keyword arguments of the model's forward.

        They are tensors and numbers alone: compiled code is made again for any other value.
        """
        return {name: getattr(self, name) for name in self.__slots__}


def lengths(segments: Sequence[Segment]) -> Lengths:
    """The lengths of a row's segments and of the keys that each sees, on the CPU."""
    seen = [[*(segments[number] for number in one.context), one] for one in segments]
    n_queries = [one.length for one in segments]
    n_keys = [sum(part.length for part in parts) for parts in seen]
    gathered = None
    if n_keys != n_queries:
        places = chain.from_iterable(range(part.start, part.start + part.length) for part in chain.from_iterable(seen))
        gathered = torch.tensor(list(places))
    return Lengths(_starts(n_queries), _starts(n_keys), max(n_queries), max(n_keys), gathered)


def supports_model(config: Any, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the kernel takes this model: half precision, heads of up to 256 in steps of 8, a GPU since Ampere."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return (
        device.type == "cuda"
        and torch.cuda.get_device_capability(device) >= _AMPERE
        and dtype in (torch.bfloat16, torch.float16)
        and head_dim <= _MAX_HEAD_DIM
        and head_dim % _HEAD_DIM_STEP == 0
    )


def attend(
    query_BHTD: Tensor, key_BGTD: Tensor, value_BGTD: Tensor, scaling: float, given: Lengths, window: int | None
) -> Tensor:
    """The attention output [1, T, H, D] of one row; with a `window` a query sees so many keys, its own included."""
    query_THD, key_TGD, value_TGD = (states[0].transpose(0, 1) for states in (query_BHTD, key_BGTD, value_BGTD))
    if given.gathered_K is not None:
        key_TGD, value_TGD = (states.index_select(0, given.gathered_K) for states in (key_TGD, value_TGD))
    mixed_THD = varlen_attn(
        query_THD,
        key_TGD,
        value_TGD,
        given.cu_seq_lens_q,
        given.cu_seq_lens_k,
        given.max_length_q,
        given.max_length_k,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query_THD.shape[1] != key_TGD.shape[1],
    )
    assert isinstance(mixed_THD, Tensor)
    return mixed_THD[None]


def _starts(sizes: Sequence[int]) -> Tensor:
    """Cumulative sizes with 0 first, int32, as the kernel takes them."""
    return torch.tensor([0, *accumulate(sizes)], dtype=torch.int32)
