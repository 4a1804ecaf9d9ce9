"""LoRA adapters as PEFT computes them, any number of them in one step."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import small_models
import tiny_decoders
from luthier.core.errors import Unavailable
from luthier.engines.native.decoder import adapters
from luthier.engines.native.decoder.library import NO_ADAPTER, Decoder
from luthier.model_folder import CheckpointFolder
from tiny_decoders import Array, Piece

TOLERANCE = 1e-3
TOKENS = tiny_decoders.prompt(75)
ADAPTERS: dict[str, dict[str, Any]] = {
    "all modules": {"r": 8, "lora_alpha": 16},
    "queries and values": {"r": 4, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]},
    "rank-stabilised": {
        "r": 24,
        "lora_alpha": 8,
        "use_rslora": True,
        "target_modules": ["k_proj", "o_proj", "up_proj"],
    },
    "one layer": {"r": 1, "lora_alpha": 2, "target_modules": ["gate_proj", "down_proj"], "layers_to_transform": [1]},
    "ranks of their own": {"r": 8, "lora_alpha": 16, "rank_pattern": {"q_proj": 20}},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_decoders.save(folder / "hf", "qwen2", torch.bfloat16)
    for number, (name, settings) in enumerate(ADAPTERS.items()):
        small_models.make_adapter(folder / name, folder, seed=number, spread=0.15, **settings)
    return folder


@pytest.fixture(scope="module")
def expected(base: Path) -> dict[str | None, Array]:
    """By PEFT: log-probabilities behind each token, of the base (None) and of each adapter."""
    found: dict[str | None, Array] = {None: log_probs(base, None)}
    return found | {name: log_probs(base, base / name) for name in ADAPTERS}


@pytest.fixture
def decoder(base: Path) -> Iterator[Decoder]:
    decoder = tiny_decoders.load(base / "hf", n_threads=2)
    yield decoder
    decoder.close()


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapter_computes_what_peft_computes(
    name: str, decoder: Decoder, base: Path, expected: dict[str | None, Array]
) -> None:
    adapter = adapters.load_adapter(decoder, CheckpointFolder(base / name))
    computed = tiny_decoders.log_softmax(tiny_decoders.read(decoder, TOKENS, adapter))
    assert np.abs(computed - expected[name]).max() < TOLERANCE
    assert np.abs(computed - expected[None]).max() > 0.1, "an adapter that changes nothing proves nothing"


def test_rows_of_the_base_and_of_many_adapters_in_one_step_are_each_its_own(
    decoder: Decoder, base: Path, expected: dict[str | None, Array]
) -> None:
    loaded: dict[str | None, int] = {None: NO_ADAPTER}
    loaded |= {name: adapters.load_adapter(decoder, CheckpointFolder(base / name)) for name in ADAPTERS}
    order = [*reversed(loaded), *loaded]
    pieces = [
        Piece(TOKENS, (2 * place, 2 * place + 1), adapter=loaded[name], n_logits=len(TOKENS))
        for place, name in enumerate(order)
    ]
    for name, logits in zip(order, tiny_decoders.step(decoder, *pieces), strict=True):
        assert np.abs(tiny_decoders.log_softmax(logits) - expected[name]).max() < TOLERANCE, name


def test_adapter_that_was_removed_changes_nothing_for_others_and_its_number_is_not_given_again(
    decoder: Decoder, base: Path
) -> None:
    names = list(ADAPTERS)
    first, second, third = (adapters.load_adapter(decoder, CheckpointFolder(base / name)) for name in names[:3])
    before = [tiny_decoders.read(decoder, TOKENS, adapter) for adapter in (NO_ADAPTER, first, third)]
    decoder.remove_adapter(second)
    after = [tiny_decoders.read(decoder, TOKENS, adapter) for adapter in (NO_ADAPTER, first, third)]
    assert all(map(np.array_equal, before, after))
    fourth = adapters.load_adapter(decoder, CheckpointFolder(base / names[0]))
    assert fourth not in (first, second, third)
    assert np.array_equal(tiny_decoders.read(decoder, TOKENS, fourth), before[1])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"use_dora": True}, "parts beyond LoRA matrices"),
        ({"bias": "lora_only"}, "parts beyond LoRA matrices"),
        ({"modules_to_save": ["lm_head"]}, "parts beyond LoRA matrices"),
    ],
)
def test_adapter_that_is_more_than_low_rank_matrices_is_refused(
    settings: dict[str, Any], words: str, decoder: Decoder, tmp_path: Path
) -> None:
    small_models.lora_config(**settings).save_pretrained(tmp_path)
    with pytest.raises(Unavailable, match=words):
        adapters.load_adapter(decoder, CheckpointFolder(tmp_path))


def test_adapter_with_matrices_for_other_modules_is_refused(decoder: Decoder, base: Path, tmp_path: Path) -> None:
    source = base / "all modules"
    (tmp_path / "adapter_config.json").write_text((source / "adapter_config.json").read_text())
    tensors = load_file(source / "adapter_model.safetensors")
    tensors["base_model.model.lm_head.lora_A.weight"] = torch.zeros(8, 64)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    assert "lora_alpha" in json.loads((tmp_path / "adapter_config.json").read_text())
    with pytest.raises(Unavailable, match="of no module that this engine knows"):
        adapters.load_adapter(decoder, CheckpointFolder(tmp_path))


def log_probs(base: Path, adapter: Path | None) -> Array:
    return tiny_decoders.log_probs_of(tiny_decoders.reference(base / "hf", adapter), TOKENS)
