"""Attention over examples that lie end to end in one row: each attends to itself alone, causally.

transformers calls it by the name NAME in every layer; varlen.py does the same by a GPU's kernel. Axes: B batch (always
1 in training), H query heads, G key and value heads, T tokens of the row, L queries of a segment, K keys, D head size.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn import functional

from luthier.trainer.dataset.packing import Segment
from luthier.trainer.layers import varlen
from luthier.trainer.layers.varlen import Lengths

NAME = "luthier_segments"

_SHORT = 512
"""Up to this length plain matrix products win: at 220 tokens 2.5 ms forward and backward, torch's CPU kernel 5.8 ms."""


def register() -> None:
    """Makes the function known to transformers, process-wide, under NAME.

    transformers builds no mask for a name that it has no mask function of.
    """
    transformers.AttentionInterface.register(NAME, segment_attention)


def segment_attention(
    module: torch.nn.Module,
    query_BHTD: Tensor,
    key_BGTD: Tensor,
    value_BGTD: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    segments: tuple[Segment, ...] | None = None,
    seen: Sequence[Tensor] | None = None,
    cu_seq_lens_q: Tensor | None = None,
    cu_seq_lens_k: Tensor | None = None,
    max_length_q: int = 0,
    max_length_k: int = 0,
    gathered_K: Tensor | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention per segment of the row, after those in its context; [B, T, H, D], and no weights (None).

    `segments` is None for a single one. With `cu_seq_lens_q` and what belongs to it (varlen.Lengths) the GPU kernel
    takes their place. When decoding from a cache, `seen` names for each query the places of its own keys in the cache.
    With a `sliding_window` a query sees so many keys, its own included. NotImplementedError for masks, soft caps and
    sinks.
    """
    if attention_mask is not None or softcap is not None or s_aux is not None:
        raise NotImplementedError("attention with a mask, soft cap or sinks is not supported")
    outputs = []
    if seen is not None:
        for place, keys_K in enumerate(seen):
            near_K = keys_K if sliding_window is None else keys_K[-sliding_window:]
            key_BGKD, value_BGKD = key_BGTD.index_select(2, near_K), value_BGTD.index_select(2, near_K)
            outputs.append(_attend(query_BHTD[:, :, place : place + 1], key_BGKD, value_BGKD, scaling, False))
        return torch.cat(outputs, dim=2).transpose(1, 2), None
    longest = max_length_k or _longest(segments, query_BHTD.shape[2])
    window = sliding_window if sliding_window is not None and longest > sliding_window else None
    if cu_seq_lens_q is not None and cu_seq_lens_k is not None:
        given = Lengths(cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k, gathered_K)
        return varlen.attend(query_BHTD, key_BGTD, value_BGTD, scaling, given, window), None
    if segments is None or len(segments) == 1:
        return _attend(query_BHTD, key_BGTD, value_BGTD, scaling, True, window).transpose(1, 2), None
    for segment in segments:
        seen_here = [segments[number] for number in segment.context]
        keys_BGLD, values_BGLD = (_parts(states, [*seen_here, segment]) for states in (key_BGTD, value_BGTD))
        outputs.append(_attend(_parts(query_BHTD, [segment]), keys_BGLD, values_BGLD, scaling, True, window))
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _longest(segments: tuple[Segment, ...] | None, whole: int) -> int:
    """The most keys that a query sees; `whole` if the row is one segment."""
    if segments is None:
        return whole
    return max(sum(segments[number].length for number in one.context) + one.length for one in segments)


def _parts(states_BGTD: Tensor, segments: Sequence[Segment]) -> Tensor:
    """The states of these segments one behind another, [B, G, L, D]; of a single one a view."""
    parts = [states_BGTD[:, :, one.start : one.start + one.length] for one in segments]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _attend(
    query_BHLD: Tensor,
    key_BGKD: Tensor,
    value_BGKD: Tensor,
    scaling: float,
    causal: bool,
    window: int | None = None,
) -> Tensor:
    """Attention of one segment, [B, H, L, D], by whichever way is faster. The queries are those of the last keys.

    Without `causal` each query sees all keys; `window` is the number of keys that it sees at most, None for all.
    """
    n_batch, n_heads, length, _ = query_BHLD.shape
    n_keys = key_BGKD.shape[2]
    if causal and n_keys <= _SHORT and n_batch == 1 and query_BHLD.is_cpu:
        return _ShortAttention.apply(query_BHLD, key_BGKD, value_BGKD, scaling, window)  # type: ignore[no-untyped-call, no-any-return]
    if window is not None and n_keys >= 2 * window:
        return _in_blocks(query_BHLD, key_BGKD, value_BGKD, scaling, window)
    groups = n_heads // key_BGKD.shape[1]
    # torch's own causal mask starts at the first key; what stands before the queries is seen by all of them.
    needed = causal and (length < n_keys or (window is not None and window < n_keys))
    mask = _mask(length, n_keys, query_BHLD.dtype, window).to(query_BHLD.device) if needed else None
    return functional.scaled_dot_product_attention(
        query_BHLD,
        _repeat(key_BGKD, groups),
        _repeat(value_BGKD, groups),
        attn_mask=mask,
        is_causal=causal and mask is None,
        scale=scaling,
    )


def _in_blocks(query_BHLD: Tensor, key_BGKD: Tensor, value_BGKD: Tensor, scaling: float, window: int) -> Tensor:
    """Sliding-window attention, a window's length of queries at a time, with the keys that one of them sees."""
    length, n_keys = query_BHLD.shape[2], key_BGKD.shape[2]
    outputs = []
    for start in range(0, length, window):
        stop = min(start + window, length)
        here = slice(max(0, n_keys - length + start - window + 1), n_keys - length + stop)
        query_BHWD, key_BGWD, value_BGWD = query_BHLD[:, :, start:stop], key_BGKD[:, :, here], value_BGKD[:, :, here]
        outputs.append(_attend(query_BHWD, key_BGWD, value_BGWD, scaling, True, window))
    return torch.cat(outputs, dim=2)


class _ShortAttention(torch.autograd.Function):
    """Causal attention of one short segment by batched products: a batch entry is a key head with all its queries.

    The probabilities are computed again in the backward pass: keeping them would cost more memory than anything else.
    """

    @staticmethod
    def forward(
        ctx: Any, query_BHLD: Tensor, key_BGLD: Tensor, value_BGLD: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """The output [1, H, L, D]; keeps queries, keys and values for the backward pass."""
        key_GLD, value_GLD = key_BGLD[0], value_BGLD[0]
        query_GQD = query_BHLD.reshape(key_GLD.shape[0], -1, query_BHLD.shape[-1])
        ctx.save_for_backward(query_GQD, key_GLD, value_GLD)
        ctx.scaling, ctx.window = scaling, window
        probability_GQL = _probabilities(query_GQD, key_GLD, scaling, query_BHLD.shape[2], window)
        return torch.bmm(probability_GQL, value_GLD).view(query_BHLD.shape)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        """Gradients of queries, keys and values, given that of the output; None for scaling and window."""
        (gradient_BHLD,) = outputs
        query_GQD, key_GLD, value_GLD = ctx.saved_tensors
        gradient_GQD = gradient_BHLD.reshape(query_GQD.shape)
        probability_GQL = _probabilities(query_GQD, key_GLD, ctx.scaling, gradient_BHLD.shape[2], ctx.window)
        value_gradient_GLD = torch.bmm(probability_GQL.transpose(1, 2), gradient_GQD)
        probability_gradient_GQL = torch.bmm(gradient_GQD, value_GLD.transpose(1, 2))
        score_gradient_GQL = torch._softmax_backward_data(
            probability_gradient_GQL, probability_GQL, -1, probability_GQL.dtype
        )
        score_gradient_GQL.mul_(ctx.scaling)
        query_gradient_GQD = torch.bmm(score_gradient_GQL, key_GLD)
        key_gradient_GLD = torch.bmm(score_gradient_GQL.transpose(1, 2), query_GQD)
        query_gradient_BHLD = query_gradient_GQD.view(gradient_BHLD.shape)
        return query_gradient_BHLD, key_gradient_GLD[None], value_gradient_GLD[None], None, None


def _probabilities(query_GQD: Tensor, key_GLD: Tensor, scaling: float, length: int, window: int | None) -> Tensor:
    """Causal softmax of the scores, [G, queries, keys]. Q are the queries of all heads that share a key head.

    They lie head after head, so one mask [length, keys] serves each head.
    """
    n_keys = key_GLD.shape[1]
    scores_GQL = torch.bmm(query_GQD, key_GLD.transpose(1, 2)).mul_(scaling)
    scores_GQL.view(-1, length, n_keys).add_(_mask(length, n_keys, scores_GQL.dtype, window))
    return scores_GQL.softmax(dim=-1)


@lru_cache(maxsize=64)
def _mask(length: int, n_keys: int, dtype: torch.dtype, window: int | None) -> Tensor:
    """Added to scores, [length, n_keys]: 0 where a query may look, minus infinity on later keys and outside its window.

    Cached: the tensor is shared, and must not be changed.
    """
    masked = torch.full((length, n_keys), float("-inf"), dtype=dtype)
    own = n_keys - length  # the key of the first query
    later = masked.triu(1 + own)
    return later if window is None else later + masked.tril(own - window)


def _repeat(states_BGTD: Tensor, groups: int) -> Tensor:
    """Repeats each key head for the query heads that share it (grouped-query attention): [B, H, T, D]."""
    if groups == 1:
        return states_BGTD
    return states_BGTD.repeat_interleave(groups, dim=1)
