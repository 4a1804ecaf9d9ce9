"""What our own engine refuses: prompts it cannot compute, adapters that do not fit, numbers that are none."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import small_models
import tiny_decoders
from luthier.core.engine_ports import ServedModel
from luthier.core.errors import InvalidRequest, Unavailable, UpstreamFailed
from luthier.core.states import EngineName
from luthier.engines import choice
from luthier.engines.native.decoder import adapters, model_config
from luthier.engines.native.decoder.library import Decoder
from luthier.engines.native.decoder.model_config import Unsupported
from luthier.engines.native.native_engine import NativeEngine
from luthier.engines.native.steps.scheduler import Scheduler
from luthier.model_folder import CheckpointFolder
from native_calls import ask, processes
from scheduling import VOCABULARY, Desk

PROMPT = list(range(5, 45))
CONTEXT_TOKENS = 256


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return ServedModel("base", "base", small_models.make_base(tmp_path_factory.mktemp("base"), "llama"), None)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeEngine]:
    engine = NativeEngine(
        tmp_path_factory.mktemp("engines"), context_tokens=CONTEXT_TOKENS, sequences=4, threads=1, retire_grace_s=0.1
    )
    yield engine
    engine.close()


def changed_adapter(folder: Path, base: ServedModel, change: Any) -> ServedModel:
    """An adapter whose tensors were changed after it was made."""
    made = small_models.make_adapter(folder / "adapter", base.base_folder, 1, r=4)
    tensors = load_file(made / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, made / "adapter_model.safetensors")
    return ServedModel(f"base.ft-{folder.name}", "base", base.base_folder, made)


@pytest.mark.parametrize(
    ("prompt", "asked", "words"),
    [
        ([], {}, "has no token"),
        ([5, 10**6], {}, "token of the prompt"),
        ([5, -1], {}, "token of the prompt"),
        (PROMPT, {"max_tokens": CONTEXT_TOKENS}, f"{CONTEXT_TOKENS + len(PROMPT)} tokens"),
        (PROMPT, {"logit_bias": {"1000000": 1}}, "logit_bias"),
        (PROMPT, {"grammar": 'start: "never closed'}, "grammar"),
    ],
)
def test_request_that_can_never_be_computed_is_refused_and_the_next_one_answered(
    prompt: list[int], asked: dict[str, Any], words: str, engine: NativeEngine, base: ServedModel
) -> None:
    address = engine.ensure(base)
    with pytest.raises(InvalidRequest, match=words):
        ask(address, prompt, **{"max_tokens": 2, **asked})
    assert ask(address, PROMPT, max_tokens=2, logprobs=1).log_probs


def test_model_whose_numbers_overflow_fails_its_own_callers_alone(
    engine: NativeEngine, base: ServedModel, tmp_path: Path
) -> None:
    def overflow(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            tensor.fill_(3e38) if "lora_B" in name else None

    damaged = engine.ensure(changed_adapter(tmp_path, base, overflow))
    for temperature in (0.0, 1.0):
        with pytest.raises(UpstreamFailed, match="no number"):
            ask(damaged, PROMPT, max_tokens=4, temperature=temperature)
    assert ask(engine.ensure(base), PROMPT, max_tokens=2, logprobs=1).log_probs


def narrower(tensors: dict[str, torch.Tensor]) -> None:
    name = next(name for name in tensors if name.endswith("layers.0.self_attn.q_proj.lora_A.weight"))
    tensors[name] = tensors[name][:, :16].contiguous()


def halved(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[next(name for name in tensors if "lora_B" in name)]


@pytest.mark.parametrize(("change", "words"), [(narrower, "has the shape"), (halved, "has no tensor")])
def test_adapter_that_does_not_fit_is_refused_and_leaves_nothing_behind(
    change: Any, words: str, base: ServedModel, tmp_path: Path
) -> None:
    engine = NativeEngine(tmp_path / "engines", context_tokens=CONTEXT_TOKENS, threads=1, retire_grace_s=0.1)
    try:
        with pytest.raises(Unavailable, match=words):
            engine.ensure(changed_adapter(tmp_path, base, change))
        for thread in list(engine._retiring.values()):
            thread.join(20)
        assert processes(tmp_path / "engines") == [], "nothing is wanted of that base"
    finally:
        engine.close()


@pytest.fixture
def decoder(tmp_path: Path) -> Iterator[Decoder]:
    decoder = tiny_decoders.load(tiny_decoders.save(tmp_path / "tiny", "llama"))
    yield decoder
    decoder.close()


def test_adapter_of_a_very_large_rank_computes_what_its_matrices_say(decoder: Decoder, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    names = [f"base_model.model.model.layers.0.self_attn.{name}_proj" for name in "qkv"]
    shape = decoder.shape
    sizes = (shape.n_heads * shape.head_dim, *[shape.n_kv_heads * shape.head_dim] * 2)
    tensors = {}
    for name, outputs in zip(names, sizes, strict=True):
        tensors[f"{name}.lora_A.weight"] = torch.tensor(rng.normal(size=(1024, shape.hidden)), dtype=torch.float32)
        tensors[f"{name}.lora_B.weight"] = torch.zeros(outputs, 1024)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 16}))
    adapter = adapters.load_adapter(decoder, CheckpointFolder(tmp_path))
    tokens = tiny_decoders.prompt(40)
    assert np.array_equal(tiny_decoders.read(decoder, tokens, adapter), tiny_decoders.read(decoder, tokens))


def test_adapter_with_an_alpha_for_each_module_is_refused(decoder: Decoder, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 16, "alpha_pattern": {"q_proj": 1}}))
    with pytest.raises(Unavailable, match="alpha each"):
        adapters.load_adapter(decoder, CheckpointFolder(tmp_path))


def test_step_that_fails_is_told_at_once_and_not_gone_on_from(decoder: Decoder, monkeypatch: Any) -> None:
    failed = threading.Event()
    desk = Desk(decoder)
    desk.scheduler = Scheduler(decoder, VOCABULARY, 4, on_fault=failed.set)
    monkeypatch.setattr(decoder, "step", lambda *_: 1 / 0)
    desk.start()
    desk.ask(tiny_decoders.prompt(8))
    assert failed.wait(10)
    desk.close()


@pytest.mark.parametrize(
    ("architecture", "settings", "window"),
    [
        ("MistralForCausalLM", {}, 4096),
        ("MistralForCausalLM", {"sliding_window": None}, 0),
        ("Qwen2ForCausalLM", {"sliding_window": 64}, 0),
        ("Qwen2ForCausalLM", {"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 2}, 0),
        ("Qwen2ForCausalLM", {"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 0}, 64),
        ("LlamaForCausalLM", {"sliding_window": 64}, 0),
    ],
)
def test_sliding_window_is_read_as_transformers_reads_it(
    architecture: str, settings: dict[str, Any], window: int
) -> None:
    sizes = {"num_attention_heads": 2, "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64}
    config = {"architectures": [architecture], "vocab_size": 99, "max_position_embeddings": 64, **sizes, **settings}
    assert model_config.shape_of(config, 1).sliding_window == window
    mixed = config | {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1}
    if architecture.startswith("Qwen"):
        with pytest.raises(Unsupported, match="differ"):
            model_config.shape_of(mixed, 1)


def test_model_whose_files_come_later_is_served_by_our_own_engine_then(tmp_path: Path) -> None:
    assert choice.choose(tmp_path).engine is EngineName.LLAMACPP
    small_models.make_base(tmp_path, "llama")
    assert choice.choose(tmp_path).engine is EngineName.NATIVE


def test_model_with_fewer_rows_than_its_vocabulary_is_left_to_llama_cpp(tmp_path: Path) -> None:
    hf = small_models.make_base(tmp_path, "llama") / "hf"
    config = json.loads((hf / "config.json").read_text())
    (hf / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 16}))
    chosen = choice.choose(tmp_path)
    assert (chosen.engine, "has the shape" in chosen.reason) == (EngineName.LLAMACPP, True)
