"""The decoder computes what transformers computes in float32, for each family, number format and rotary embedding."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_decoders
from luthier.engines.native.decoder.model_config import Unsupported
from tiny_decoders import Piece

TOLERANCE = 1e-3
"""Nats: a key that lies between two numbers of float16 may be rounded to one here and to the other there."""
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama with tied embeddings": ("llama", {"tie_word_embeddings": True}),
    "llama with biases of attention": ("llama", {"attention_bias": True}),
    "llama with heads wider than the hidden size": ("llama", {"head_dim": 32, "num_hidden_layers": 3}),
    "llama with a head of keys each": ("llama", {"num_key_value_heads": 4}),
    "llama with one head of keys": ("llama", {"num_key_value_heads": 1, "num_attention_heads": 8}),
    "llama with linear rope": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}),
    "llama with rope of llama 3": ("llama", {"rope_parameters": LLAMA3_ROPE}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral with a window": ("mistral", {"sliding_window": 21, "head_dim": 32}),
    "mistral with a window over pages": ("mistral", {"sliding_window": 100}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"head_dim": 32, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
}


@pytest.mark.parametrize("name", MODELS)
def test_log_probabilities_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    kind, settings = MODELS[name]
    folder = tiny_decoders.save(tmp_path, kind, **settings)
    tokens = tiny_decoders.prompt(200)
    expected = tiny_decoders.log_probs_of(tiny_decoders.reference(folder), tokens)
    decoder = tiny_decoders.load(folder)
    computed = tiny_decoders.log_softmax(tiny_decoders.read(decoder, tokens))
    decoder.close()
    assert np.abs(computed - expected).max() < TOLERANCE
    assert np.ptp(expected, axis=0).mean() > 1, "a model that says the same everywhere proves nothing"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tied", [False, True])
def test_weights_of_each_number_format_are_computed_in_float32(dtype: torch.dtype, tied: bool, tmp_path: Path) -> None:
    folder = tiny_decoders.save(tmp_path, "qwen2", dtype, tie_word_embeddings=tied)
    tokens = tiny_decoders.prompt(70)
    expected = tiny_decoders.log_probs_of(tiny_decoders.reference(folder), tokens)
    decoder = tiny_decoders.load(folder)
    computed = tiny_decoders.log_softmax(tiny_decoders.read(decoder, tokens))
    decoder.close()
    assert np.abs(computed - expected).max() < TOLERANCE


def test_tokens_one_by_one_in_scattered_pages_give_what_the_whole_text_gives(tmp_path: Path) -> None:
    folder = tiny_decoders.save(tmp_path, "mistral", sliding_window=70)
    tokens = tiny_decoders.prompt(150)
    expected = tiny_decoders.log_probs_of(tiny_decoders.reference(folder), tokens)
    decoder = tiny_decoders.load(folder, n_pages=9)
    computed = tiny_decoders.log_softmax(
        tiny_decoders.read(decoder, tokens, cuts=range(1, len(tokens)), pages=(7, 0, 4))
    )
    decoder.close()
    assert np.abs(computed - expected).max() < TOLERANCE


def test_the_last_position_of_the_context_is_computed(tmp_path: Path) -> None:
    folder = tiny_decoders.save(tmp_path, "llama", max_position_embeddings=128)
    tokens = tiny_decoders.prompt(128)
    expected = tiny_decoders.log_probs_of(tiny_decoders.reference(folder), tokens)[-1]
    decoder = tiny_decoders.load(folder, n_pages=2)
    computed = tiny_decoders.step(decoder, Piece(tokens, (0, 1), n_logits=1))[0]
    decoder.close()
    assert np.abs(tiny_decoders.log_softmax(computed)[0] - expected).max() < TOLERANCE


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("llama", {"mlp_bias": True}, "its MLP has biases"),
        ("llama", {"hidden_act": "gelu"}, "its activation is gelu"),
        ("llama", {"hidden_size": 72}, "its sizes are no multiples of 16"),
        ("llama", {"head_dim": 24}, "its sizes are no multiples of 16"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}},
            "its rotary embedding is of the type yarn",
        ),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
            "its layers differ in what they attend to",
        ),
    ],
)
def test_model_that_is_not_computed_here_is_refused_with_the_reason(
    kind: str, settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    folder = tiny_decoders.save(tmp_path, kind, **settings)
    with pytest.raises(Unsupported, match=words):
        tiny_decoders.load(folder)


@pytest.mark.parametrize(
    ("settings", "window"),
    [
        ({"use_sliding_window": False, "sliding_window": 8}, 0),
        ({"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}, 0),
        ({"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}, 8),
    ],
)
def test_window_of_a_qwen_holds_for_the_layers_that_its_configuration_names(
    settings: dict[str, Any], window: int, tmp_path: Path
) -> None:
    decoder = tiny_decoders.load(tiny_decoders.save(tmp_path, "qwen2", **settings))
    assert decoder.shape.sliding_window == window
    decoder.close()
