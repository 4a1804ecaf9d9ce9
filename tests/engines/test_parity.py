"""The parity check: silent on what was trained, loud on every way in which it can be another model."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import small_models
from engine_kinds import KINDS, AnyEngine, open_engine
from luthier.core.engine_ports import Address, ServedModel
from luthier.core.errors import Unavailable
from luthier.engines.gguf import export
from luthier.engines.parity import check_parity


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and two adapters, each with its probes."""
    folder = tmp_path_factory.mktemp("parity")
    base = small_models.make_base(folder / "base", "qwen2")
    export.export_base(base)
    small_models.write_probes(base, base)
    for name, seed in (("first", 1), ("second", 2)):
        small_models.write_probes(small_models.make_adapter(folder / name, base, seed), base, folder / name)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest, folder: Path) -> Iterator[AnyEngine]:
    engine = open_engine(request.param, folder / "engines", 1024, 2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def tuned(engine: AnyEngine, folder: Path) -> Address:
    engine.ensure(ServedModel("second", "base", folder / "base", folder / "second"))
    return engine.ensure(ServedModel("first", "base", folder / "base", folder / "first"))


def test_parity_of_the_trained_model_agrees_and_gives_figures(tuned: Address, folder: Path) -> None:
    report = check_parity(tuned, folder / "first")
    assert report.agrees
    assert report.positions >= 8
    assert 0 < report.mean_difference < report.max_difference < report.tolerance
    assert f"{report.max_difference:.4f} nats" in report.reason


def test_parity_without_the_adapter_fails(engine: AnyEngine, tuned: Address, folder: Path) -> None:
    base = engine.ensure(ServedModel("base", "base", folder / "base", None))
    assert check_parity(base, folder / "base").agrees
    assert not check_parity(base, folder / "first").agrees


def test_parity_with_another_adapter_fails(tuned: Address, folder: Path) -> None:
    assert not check_parity(tuned, folder / "second").agrees


@pytest.mark.parametrize("scale", [0.9, 1.1, 2.0])
def test_parity_with_another_scale_fails(scale: float, engine: AnyEngine, folder: Path, tmp_path: Path) -> None:
    wrong = shutil.copytree(folder / "first", tmp_path / "wrong")
    config = json.loads((wrong / "adapter_config.json").read_bytes())
    config["lora_alpha"] *= scale
    (wrong / "adapter_config.json").write_text(json.dumps(config))
    address = engine.ensure(ServedModel(f"wrong-{scale}", "base", folder / "base", wrong))
    assert not check_parity(address, folder / "first").agrees
    engine.release(f"wrong-{scale}")


def test_parity_with_a_template_that_differs_in_one_character_fails(
    engine: AnyEngine, folder: Path, tmp_path: Path
) -> None:
    address = served_with_template(engine, folder, tmp_path, "'\n' + message['content']", "' ' + message['content']")
    assert not check_parity(address, folder / "base").agrees


def test_parity_with_a_template_of_another_length_says_so(engine: AnyEngine, folder: Path, tmp_path: Path) -> None:
    report = check_parity(served_with_template(engine, folder, tmp_path, "<|im_end|>", "<|im_end|>."), folder / "base")
    assert not report.agrees
    assert "probe 1 is 54 tokens in the engine and 53 in the trainer" in report.reason


def test_parity_with_weights_of_one_layer_changed_fails(engine: AnyEngine, folder: Path, tmp_path: Path) -> None:
    base = shutil.copytree(folder / "base", tmp_path / "base")
    weights = load_file(base / "hf" / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"] *= 1.1
    save_file(weights, base / "hf" / "model.safetensors")
    export.export_base(base)
    assert not check_parity(engine.ensure(ServedModel("changed", "changed", base, None)), base).agrees
    engine.release("changed")


def test_parity_without_probes_proves_nothing(tuned: Address, tmp_path: Path) -> None:
    report = check_parity(tuned, tmp_path)
    assert not report.agrees
    assert "without probes.json" in report.reason
    (tmp_path / "probes.json").write_text(json.dumps({"version": 1, "dtype": "float32", "probes": []}))
    assert not check_parity(tuned, tmp_path).agrees


def test_parity_of_an_engine_that_is_gone_is_unavailable(tuned: Address, folder: Path) -> None:
    with pytest.raises(Unavailable):
        check_parity(Address("http://127.0.0.1:9/v1", {}), folder / "first")
    with pytest.raises(Unavailable, match="does not answer" if tuned.takes_tokens else "401"):
        check_parity(replace(tuned, headers={}), folder / "first")


def served_with_template(engine: AnyEngine, folder: Path, tmp_path: Path, old: str, new: str) -> Address:
    base = shutil.copytree(folder / "base", tmp_path / "base")
    template = base / "hf" / "chat_template.jinja"
    assert old in template.read_text()
    template.write_text(template.read_text().replace(old, new, 1))
    export.export_base(base)
    return engine.ensure(ServedModel("other-template", "other", base, None))
