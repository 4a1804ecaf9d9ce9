"""Random models of a few thousand weights: in transformers' layout on disk, and as our own decoder computes them."""

import dataclasses
import itertools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers

from luthier.engines.native.decoder import weights
from luthier.engines.native.decoder.library import NO_ADAPTER, PAGE, Decoder, Segment
from luthier.model_folder import HuggingFaceFolder

Array = np.ndarray[Any, np.dtype[Any]]

VOCABULARY = 203
CONTEXT = 1024
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_CONFIGS = {
    "llama": transformers.LlamaConfig,
    "mistral": transformers.MistralConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
}
_SPREADS = {"embed": 0.3, "lm_head": 0.2, "bias": 0.3}


@dataclasses.dataclass(frozen=True)
class Piece:
    """Rows of one sequence in a step: its tokens from `first` on; logits are wanted of the last `n_logits`."""

    tokens: Sequence[int]
    pages: Sequence[int]
    first: int = 0
    adapter: int = NO_ADAPTER
    n_logits: int = 0


def save(folder: Path, kind: str, dtype: torch.dtype = torch.float32, seed: int = 0, **settings: Any) -> Path:
    """Writes a model of random weights to `folder`; `settings` are of transformers' configuration."""
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(seed)
    causal = transformers.AutoModelForCausalLM.from_config(_CONFIGS[kind](**{**shape, **settings}))
    with torch.no_grad():
        for name, parameter in causal.named_parameters():
            spread = next((value for part, value in _SPREADS.items() if part in name), 0.12)
            middle = 1.0 if "norm" in name else 0.0
            parameter.copy_(torch.randn_like(parameter) * spread + middle)
    causal.to(dtype).save_pretrained(folder)
    return folder


def load(folder: Path, n_pages: int = 32, n_threads: int = 1) -> Decoder:
    return weights.load_model(HuggingFaceFolder(folder), n_pages, n_threads)


def reference(folder: Path, adapter: Path | None = None) -> Any:
    """The same model in transformers, computed in float32, with PEFT's adapter if there is one."""
    causal = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if adapter is None:
        return causal
    with warnings.catch_warnings():  # peft 0.21 reads an attribute that transformers 5.23 has renamed
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        return peft.PeftModel.from_pretrained(causal, adapter).eval()


class _HalfCache(transformers.DynamicCache):  # type: ignore[misc]
    """Keeps keys and values in float16, as our own cache does."""

    def update(self, keys: torch.Tensor, values: torch.Tensor, *rest: Any, **named: Any) -> Any:
        return super().update(keys.half().float(), values.half().float(), *rest, **named)


def log_probs_of(causal: Any, tokens: Sequence[int]) -> Array:
    """By transformers, after each of the tokens; on one thread, for several that wait for one another spin."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        cache = _HalfCache(config=causal.config)
        found: Array = causal(torch.tensor([list(tokens)]), past_key_values=cache).logits[0].log_softmax(-1).numpy()
    torch.set_num_threads(n_threads)
    return found


def prompt(n: int, seed: int = 0) -> list[int]:
    """Random tokens that are no special ones."""
    drawn: list[int] = np.random.default_rng(seed).integers(3, VOCABULARY, n).tolist()
    return drawn


def step(decoder: Decoder, *pieces: Piece) -> list[Array]:
    """One step over the pieces; the logits that each wants."""
    segments = [
        Segment(
            piece.first,
            np.array(piece.tokens, np.int32),
            piece.adapter,
            piece.n_logits,
            np.array(piece.pages, np.int32),
        )
        for piece in pieces
    ]
    logits = np.full((sum(piece.n_logits for piece in pieces), decoder.row), np.nan, np.float32)
    decoder.step(segments, logits)
    ends = np.cumsum([piece.n_logits for piece in pieces])[:-1]
    return [part[:, : decoder.shape.vocabulary] for part in np.split(logits, ends)]


def read(
    decoder: Decoder,
    tokens: Sequence[int],
    adapter: int = NO_ADAPTER,
    cuts: Sequence[int] = (),
    pages: Sequence[int] | None = None,
) -> Array:
    """The logits behind each token of a sequence that is computed in pieces, cut before these places."""
    chosen = list(range(-(-len(tokens) // PAGE))) if pages is None else pages
    borders = [0, *cuts, len(tokens)]
    parts = [
        step(decoder, Piece(tokens[begin:end], chosen, begin, adapter, end - begin))[0]
        for begin, end in itertools.pairwise(borders)
    ]
    return np.concatenate(parts)


def log_softmax(logits: Array) -> Array:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    normal: Array = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    return normal
