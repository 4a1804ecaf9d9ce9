"""Exports of small models: every architecture in every format passes in its own tool, and a damaged one never does."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import huggingface_hub
import numpy as np
import psutil
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import disk
import export_specs
import small_models
from luthier.core.errors import InvalidRequest, NoSpace, Unavailable, Unsupported, UpstreamFailed
from luthier.core.exports import DTYPES, OF_ADAPTERS, ExportDtype, ExportFormat
from luthier.core.states import Tuning
from luthier.engines.exports import export_card, merging
from luthier.engines.exports.export_process import ExportProcess
from luthier.trainer.layers import quantized_weights
from waiting import until

FORMS = [(format, dtype) for format in ExportFormat for dtype in DTYPES[format]]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """peft 0.21 reads an attribute that transformers 5.23 has renamed, and transformers says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


@pytest.mark.parametrize("kind", small_models.KINDS)
def test_adapter_of_each_architecture_passes_in_every_format(kind: str, tmp_path: Path) -> None:
    folders = export_specs.lora(tmp_path, kind, use_rslora=kind == "qwen3", spread=0.05)
    for number, format in enumerate((ExportFormat.MERGED, ExportFormat.GGUF_ADAPTER, ExportFormat.OLLAMA)):
        files, parity = export_specs.make(export_specs.spec(folders, format), tmp_path / str(number))
        assert parity.positions > 8, format
        assert sorted(file.name for file in files) == sorted(
            path.name for path in (tmp_path / str(number) / "done").iterdir()
        )


@pytest.mark.parametrize(("format", "dtype"), FORMS)
def test_each_format_and_dtype_passes_and_its_rounding_shows_in_the_figures(
    format: ExportFormat, dtype: ExportDtype, tmp_path: Path
) -> None:
    folders = export_specs.lora(tmp_path, "llama3", spread=0.05)
    _, parity = export_specs.make(export_specs.spec(folders, format, dtype), tmp_path / "out")
    exact = {ExportDtype.F32: 0.05, ExportDtype.F16: 0.05}.get(dtype)
    if exact is not None:
        assert parity.max_difference < exact
    else:
        assert parity.mean_difference > 0.001, "rounded to eight bits or so"


@pytest.mark.parametrize("format", [format for format in ExportFormat if format not in OF_ADAPTERS])
def test_model_with_all_weights_tuned_passes(format: ExportFormat, tmp_path: Path) -> None:
    folders = export_specs.full(tmp_path, "qwen3")
    _, parity = export_specs.make(export_specs.spec(folders, format, tuning=Tuning.FULL), tmp_path / "out")
    assert parity.max_difference < 0.1
    if format is ExportFormat.MERGED:
        stored = load_file(tmp_path / "out" / "done" / "model.safetensors")
        own = load_file(folders[1] / "model.safetensors")
        assert all(torch.equal(stored[name], own[name]) for name in own | stored)


def test_merged_weights_are_those_of_peft_and_rounded_once(tmp_path: Path) -> None:
    import peft

    base, checkpoint = export_specs.lora(tmp_path, "qwen3", use_rslora=True)
    export_specs.make(export_specs.spec((base, checkpoint), ExportFormat.MERGED), tmp_path / "out")
    merged = peft.PeftModel.from_pretrained(small_models.load(base), checkpoint).merge_and_unload().state_dict()
    stored = load_file(tmp_path / "out" / "done" / "model.safetensors")
    for name, weight in stored.items():
        assert weight.dtype is torch.bfloat16
        # peft adds in another order: where a sum lies between two numbers it may be rounded to the other one.
        near = torch.isclose(weight.float(), merged[name], rtol=2**-8, atol=1e-6)
        assert near.all(), name
        assert (weight == merged[name].bfloat16()).float().mean() > 0.999, name


def test_few_bits_base_is_merged_as_it_was_trained_on(tmp_path: Path) -> None:
    base, checkpoint = export_specs.lora(tmp_path, "qwen2")
    causal = transformers.AutoModelForCausalLM.from_pretrained(base / "hf", dtype=torch.bfloat16)
    causal.requires_grad_(False)
    quantized_weights.round_base(causal, "4bit")
    causal.save_pretrained(base / "hf")
    small_models.write_probes(checkpoint, base, checkpoint)
    rounded = load_file(base / "hf" / "model.safetensors")
    for tensor in merging.merged_weights(base / "hf", checkpoint).values():
        if isinstance(tensor, merging.MergedTensor):
            grid = quantized_weights.rounded(rounded[tensor.name], "4bit")
            assert np.array_equal(tensor.base.read(), grid.float().numpy())
            added = tensor.read() - tensor.base.read()
            product = (tensor.lora_b.read() @ tensor.lora_a.read()) * tensor.scale
            assert np.allclose(added, product, atol=1e-6)
    _, parity = export_specs.make(
        export_specs.spec((base, checkpoint), ExportFormat.MERGED, ExportDtype.F16, quantization="4bit"),
        tmp_path / "out",
    )
    assert parity.max_difference < 0.05
    card = (tmp_path / "out" / "done" / "README.md").read_text()
    assert "rounded to 4bit" in card


def scale_a_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["model.layers.1.mlp.down_proj.weight"] *= 3
    save_file(weights, path, {"format": "pt"})


def forget_the_adapter(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({name: torch.zeros_like(weight) for name, weight in load_file(path).items()}, path, {"format": "pt"})


def double_alpha(folder: Path) -> None:
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"lora_alpha": 2 * config["lora_alpha"]}))


def another_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("<|im_start|>assistant", "<|im_start|>model"))


def damage_gguf(folder: Path) -> None:
    path = next(folder.glob("*.gguf"))
    reader = gguf.GGUFReader(path, "r+")
    tensor = next(one for one in reader.tensors if "ffn_down" in one.name and not one.name.endswith("lora_a"))
    tensor.data[:] = tensor.data[::-1].copy()
    reader.data.flush()


@pytest.mark.parametrize(
    ("format", "dtype", "damage"),
    [
        (ExportFormat.MERGED, ExportDtype.BF16, scale_a_weight),
        (ExportFormat.MERGED, ExportDtype.F16, scale_a_weight),
        (ExportFormat.MERGED, ExportDtype.BF16, another_template),
        (ExportFormat.ADAPTER, ExportDtype.F32, forget_the_adapter),
        (ExportFormat.ADAPTER, ExportDtype.F32, double_alpha),
        (ExportFormat.GGUF, ExportDtype.F16, damage_gguf),
        (ExportFormat.GGUF, ExportDtype.Q8_0, damage_gguf),
        (ExportFormat.OLLAMA, ExportDtype.BF16, damage_gguf),
        (ExportFormat.GGUF_ADAPTER, ExportDtype.F32, damage_gguf),
    ],
)
def test_damaged_export_is_not_handed_over(
    format: ExportFormat, dtype: ExportDtype, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    folders = export_specs.lora(tmp_path, "llama", spread=0.1)
    with pytest.raises(UpstreamFailed, match="thrown away") as refused:
        export_specs.make(export_specs.spec(folders, format, dtype), tmp_path / "out", damage)
    assert refused.value.code == "parity_failed"
    assert not (tmp_path / "out" / "done").exists()


def test_checkpoint_without_probes_is_not_exported(tmp_path: Path) -> None:
    folders = export_specs.lora(tmp_path)
    (folders[1] / "probes.json").unlink()
    with pytest.raises(UpstreamFailed, match=r"without probes\.json"):
        export_specs.make(export_specs.spec(folders, ExportFormat.ADAPTER), tmp_path / "out")


def test_adapter_of_another_base_does_not_fit(tmp_path: Path) -> None:
    _, checkpoint = export_specs.lora(tmp_path)
    other = small_models.make_base(tmp_path / "other", "qwen2", hidden_size=32)
    with pytest.raises(InvalidRequest, match="do not fit"):
        merging.merged_weights(other / "hf", checkpoint)


def test_value_beyond_f16_is_refused_in_f16_and_kept_in_bf16(tmp_path: Path) -> None:
    base, checkpoint = export_specs.full(tmp_path)
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][3, 3] = 1e5
    save_file(weights, checkpoint / "model.safetensors")
    spec = export_specs.spec((base, checkpoint), ExportFormat.MERGED, ExportDtype.F16, Tuning.FULL)
    with pytest.raises(Unsupported, match=r"down_proj\.weight.*65504.*bf16"):
        export_specs.make(spec, tmp_path / "out")


def test_card_and_configuration_say_what_means_something_elsewhere(tmp_path: Path) -> None:
    folders = export_specs.lora(tmp_path)
    for format, relation in ((ExportFormat.ADAPTER, "adapter"), (ExportFormat.MERGED, "finetune")):
        export_specs.make(export_specs.spec(folders, format), tmp_path / format)
        card = huggingface_hub.ModelCard.load(tmp_path / format / "done" / "README.md")
        assert card.data.base_model == "someone/small"
        assert card.data.pipeline_tag == "text-generation"
        assert card.data["base_model_relation"] == relation
        assert "log-probabilities differ from the trainer's by at most" in card.text
        assert str(tmp_path) not in card.text
    config = json.loads((tmp_path / "adapter" / "done" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "someone/small"
    generation = json.loads((tmp_path / "merged" / "done" / "generation_config.json").read_text())
    assert (generation["do_sample"], generation["temperature"], generation["top_p"], generation["top_k"]) == (
        True,
        1,
        1,
        0,
    )
    model = json.loads((tmp_path / "merged" / "done" / "config.json").read_text())
    assert (model["dtype"], model["torch_dtype"], model["rope_theta"]) == ("bfloat16", "bfloat16", 10_000.0)
    assert str(tmp_path) not in json.dumps([config, generation, model])


def test_card_keeps_what_the_trainer_wrote(tmp_path: Path) -> None:
    folders = export_specs.lora(tmp_path)
    (folders[1] / "README.md").write_text(
        "---\nbase_model: someone/small\nlicense: apache-2.0\ntags:\n- lora\n- luthier\n---\n\n# Mine\n\n"
        "Tuned on chats.\n\n## How to load it\n\n```python\nimport peft\n```\n"
    )
    spec = export_specs.spec(folders, ExportFormat.GGUF)
    _, parity = export_specs.make(spec, tmp_path / "out")
    text = export_card.render(spec, parity)
    assert "Tuned on chats." in text
    assert "import peft" not in text
    assert "llama-server -m model.gguf" in text
    assert huggingface_hub.ModelCard(text).data["tags"] == ["lora", "luthier", "gguf"]


def test_process_of_an_export_leaves_the_folder_whole_and_nothing_else(tmp_path: Path) -> None:
    folders = export_specs.lora(tmp_path)
    result = ExportProcess(threads=1).run(
        export_specs.spec(folders, ExportFormat.OLLAMA), tmp_path / "e" / "files", lambda: True
    )
    assert result is not None
    assert result.seconds > 0
    assert {file.name for file in result.files} == {"README.md", "Modelfile", "model.gguf"}
    assert [path.name for path in (tmp_path / "e").iterdir()] == ["files"]
    assert (tmp_path / "e" / "files" / "Modelfile").read_text().startswith("FROM ./model.gguf\nTEMPLATE")


def test_process_that_nobody_wants_any_more_ends_and_leaves_no_files(tmp_path: Path) -> None:
    folders = export_specs.lora(tmp_path)
    looks = iter([True, True, True])
    spec = export_specs.spec(folders, ExportFormat.GGUF)
    assert ExportProcess(threads=1).run(spec, tmp_path / "e" / "files", lambda: next(looks, False)) is None
    assert not (tmp_path / "e" / "files").exists()


def test_killed_process_is_unavailable_and_leaves_no_files(tmp_path: Path) -> None:
    folders = export_specs.lora(tmp_path)

    def kill_and_go_on() -> bool:
        for child in psutil.Process().children():
            child.kill()
        return True

    with pytest.raises(Unavailable, match="lack of memory"):
        ExportProcess(threads=1).run(
            export_specs.spec(folders, ExportFormat.GGUF), tmp_path / "e" / "files", kill_and_go_on
        )
    assert not (tmp_path / "e" / "files").exists()


def test_full_disk_is_named_and_leaves_no_files(tmp_path: Path) -> None:
    folders = export_specs.lora(tmp_path)
    spec = export_specs.spec(folders, ExportFormat.MERGED)
    with disk.full_disk(60_000), pytest.raises(NoSpace, match="disk is full") as full:
        ExportProcess(threads=1).run(spec, tmp_path / "e" / "files", lambda: True)
    assert full.value.code == "disk_full"
    assert not (tmp_path / "e" / "files").exists()


def test_process_ends_with_a_service_that_is_killed(tmp_path: Path) -> None:
    folders = export_specs.lora(tmp_path)
    code = (
        "import export_specs, sys; from pathlib import Path; from luthier.core.exports import ExportFormat;"
        "from luthier.engines.exports.export_process import ExportProcess;"
        "spec = export_specs.spec((Path(sys.argv[1]), Path(sys.argv[2])), ExportFormat.GGUF);"
        "ExportProcess(threads=1).run(spec, Path(sys.argv[3]), lambda: True)"
    )
    arguments = [sys.executable, "-c", code, *map(str, folders), str(tmp_path / "e" / "files")]
    support = str(Path(export_specs.__file__).parent)
    service = subprocess.Popen(arguments, env=os.environ | {"PYTHONPATH": support})
    until(lambda: psutil.Process(service.pid).children(), 60)
    [export] = psutil.Process(service.pid).children()
    service.send_signal(signal.SIGKILL)
    service.wait()
    began = time.monotonic()
    until(lambda: not export.is_running() or export.status() == psutil.STATUS_ZOMBIE, 20)
    assert time.monotonic() - began < 60
