"""Probes: what a model says next after fixed prompts, stored beside it as probes.json.

engines/parity.py compares an engine's log-probabilities with them before a deployment succeeds.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, chain
from typing import Any

import torch
import transformers
from torch import Tensor

from luthier.data.rendering.renderer import ChatTokenizer, Renderer
from luthier.data.rendering.template_messages import template_message
from luthier.trainer.dataset import packing
from luthier.trainer.dataset.probe_prompts import MAX_PROMPT_TOKENS, Prompt
from luthier.trainer.model import devices
from luthier.trainer.model.tuned_model import TunedModel

EXACT_PROBES_MAX_PARAMETERS = 3_000_000_000
"""Up to this size probes are computed in float32; above it the lifted copy would take too much memory."""

VERSION = 1
POSITIONS = 8
TOP = 10


def compute(tuned: TunedModel, tokenizer: ChatTokenizer, asked: Sequence[Prompt], base_model: str) -> bytes:
    """The bytes of probes.json: for each prompt the next-token log-probabilities along the greedy answer.

    Computed in float32 where a copy of the weights in it fits. Frees the model's activations; its weights and mode are
    afterwards as before. docs/run-directory.md has the format.
    """
    renderer = Renderer(tokenizer, MAX_PROMPT_TOKENS)
    was_training = tuned.causal.training
    tuned.causal.eval()
    tuned.release()
    with lifted_to_float32(tuned) as dtype:
        token_ids = [renderer.chat_prompt(prompt) for prompt in asked]
        positions = _greedy(tuned.causal, token_ids, tokenizer.end_ids)
    tuned.causal.train(was_training)
    found = [
        {
            "messages": [template_message(message) for message in prompt],
            "prompt_tokens": len(token_ids[place]),
            "positions": positions[place],
        }
        for place, prompt in enumerate(asked)
    ]
    content = {"version": VERSION, "base_model": base_model, "dtype": dtype, "probes": found}
    return json.dumps(content, ensure_ascii=False).encode() + b"\n"


@contextmanager
def lifted_to_float32(tuned: TunedModel) -> Iterator[str]:
    """Casts the stored weights to float32 for the duration and then restores the same tensors; yields the dtype.

    Where such a copy does not fit, or where ranks share the base, nothing is cast. Probes computed so describe what is
    served: an engine computes from the same stored weights, with its own rounding. Trained weights are stored in bf16,
    whatever dtype they are computed in.
    """
    if tuned.sharded:
        yield str(tuned.head.weight_VH.dtype).removeprefix("torch.")
        return
    whole = tuned.masters is not None
    lifted = {id(one): one for one in tuned.causal.parameters() if whole or not one.requires_grad}.values()
    if not _can_be_lifted(sum(tensor.numel() for tensor in lifted), tuned.device):
        yield str(tuned.head.weight_VH.dtype).removeprefix("torch.")
        return
    kept = [(tensor, tensor.data) for tensor in lifted]
    try:
        for tensor, data in kept:
            tensor.data = (data.bfloat16() if whole else data).float()
        yield "float32"
    finally:
        for tensor, data in kept:
            tensor.data = data


def _can_be_lifted(n_parameters: int, place: torch.device) -> bool:
    """Whether a float32 copy fits: the model is not too large, and a GPU has the memory free."""
    fits = place.type != "cuda" or n_parameters * torch.float32.itemsize < devices.free_bytes(place)
    return fits and n_parameters <= EXACT_PROBES_MAX_PARAMETERS


@torch.inference_mode()
def _greedy(causal: Any, prompts: Sequence[list[int]], end_ids: frozenset[int]) -> list[list[dict[str, object]]]:
    """For each prompt the positions of its greedy answer, up to POSITIONS and its end token included, best ten of each.

    All prompts go through the model together: end to end in one row, then one token of each at a time. The cache holds
    the row, and behind it a token of each prompt per turn; `seen` tells each query which of them are its own.
    """
    cache = transformers.DynamicCache()
    ends = list(accumulate(map(len, prompts)))
    place = causal.device
    seen = [torch.arange(end - len(prompt), end, device=place) for prompt, end in zip(prompts, ends, strict=True)]
    output = causal(
        input_ids=torch.tensor([list(chain.from_iterable(prompts))], device=place),
        position_ids=torch.cat([torch.arange(len(prompt), device=place) for prompt in prompts])[None],
        segments=packing.consecutive_segments([len(prompt) for prompt in prompts]),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=torch.tensor(ends, device=place) - 1,
    )
    found: list[list[dict[str, object]]] = [[] for _ in prompts]
    for turn in range(POSITIONS):
        logprobs_PV = output.logits[0].float().log_softmax(dim=1).cpu()
        top_P = [_top(logprobs_V) for logprobs_V in logprobs_PV]
        for positions, top in zip(found, top_P, strict=True):
            if not positions or positions[-1]["token_id"] not in end_ids:
                positions.append({"token_id": top[0][0], "top": top})
        written = ends[-1] + turn * len(prompts)
        seen = [torch.cat([own, torch.tensor([written + row], device=place)]) for row, own in enumerate(seen)]
        if turn + 1 < POSITIONS:
            output = causal(
                input_ids=torch.tensor([[top[0][0] for top in top_P]], device=place),
                position_ids=torch.tensor([[len(prompt) + turn for prompt in prompts]], device=place),
                seen=seen,
                past_key_values=cache,
                use_cache=True,
            )
    return found


def _top(logprobs_V: Tensor) -> list[tuple[int, float]]:
    """The TOP likeliest token ids of one position with their log-probabilities in nats, best first."""
    values_K, ids_K = logprobs_V.topk(min(TOP, len(logprobs_V)))
    return [(int(id), round(float(value), 6)) for id, value in zip(ids_K, values_K, strict=True)]
