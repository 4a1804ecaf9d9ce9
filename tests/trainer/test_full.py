"""All weights tuned: textbook gradients, exact after any crash, and a folder that plain transformers loads."""

import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import torch
import transformers
from torch.nn import functional

import rows
import small_models
import tiny
from equality import Outcome, assert_same, compiled, with_gradients
from flash import row
from luthier import manifest
from luthier.core.errors import InvalidRequest
from luthier.run_directory.run_directory import RunDirectory
from luthier.trainer import loop
from luthier.trainer.model import tuned_model
from luthier.trainer.objectives import sft
from luthier.trainer.run.event_log import EventLog
from proofs import prove
from runs import MakeRun, contents, events

ROWS = [row(*range(7, 30), 1, 2), row(*range(7, 30), 5, 6, 7, 8), row(40, 41, 42)]
RATE = 1e-3


def train(run: RunDirectory, stop_after: int | None = None) -> None:
    """Trains to the end, or until so many steps are told."""

    def stop() -> bool:
        return stop_after is not None and sum(event["kind"] == "metrics" for event in events(run)) >= stop_after

    event_log = EventLog(run)
    verdict = loop.train(run, run.read_spec(), event_log, stop)
    assert (verdict is None) == (stop_after is not None)
    if verdict is not None:
        event_log.write(verdict)


@pytest.mark.parametrize("with_kernels", [False, True])
@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_gradients_of_all_weights_are_those_of_the_textbook(kind: str, with_kernels: bool, tmp_path: Path) -> None:
    tuned_model.configure_process(1, 0)
    base = small_models.make_base(tmp_path, "llama" if kind == "tied" else "qwen3")
    tuned = tuned_model.unfreeze_all_weights(
        tuned_model.load_base(base, torch.float32), None, compiled() if with_kernels else None
    )
    assert ("lm_head.weight" in tuned.parameters) == (kind == "untied")
    flat = with_gradients_kept(tuned, lambda: sft.gradients(tuned, ROWS, 10_000).loss)

    def textbook() -> float:
        total = torch.tensor(0.0)
        for item in ROWS:
            logits_TV = tuned.causal(input_ids=torch.tensor([item.token_ids]), use_cache=False).logits[0, :-1]
            total = total + functional.cross_entropy(logits_TV, torch.tensor(item.token_ids[1:]), reduction="sum")
        loss = total / sum(len(item.token_ids) - 1 for item in ROWS)
        loss.backward()
        return float(loss.detach())

    assert_same(flat, with_gradients(tuned, textbook))


def with_gradients_kept(tuned: tuned_model.TunedModel, compute: Callable[[], float]) -> Outcome:
    """The loss adds to gradients that are there, as after zero_grad(set_to_none=False)."""
    loss = compute()
    return loss, {name: parameter.grad.clone() for name, parameter in tuned.parameters.items()}


def test_bf16_model_computes_with_its_masters_rounded_and_collects_float32_gradients(base: Path) -> None:
    tuned_model.configure_process(1, 0)
    tuned = tuned_model.unfreeze_all_weights(tuned_model.load_base(base, torch.bfloat16), None)
    sft.gradients(tuned, ROWS, 10_000)
    name, master = next(item for item in tuned.parameters.items() if item[0].endswith("up_proj.weight"))
    assert master.dtype == master.grad.dtype == torch.float32
    assert float(master.grad.abs().sum()) > 0
    weight = dict(tuned.causal.named_parameters())[name]
    assert weight.grad is None
    with torch.no_grad():
        master += 0.001
    before = weight.detach().clone()
    tuned.refresh()
    assert torch.equal(weight, master.bfloat16())
    assert not torch.equal(weight, before)


def test_full_run_learns_and_its_checkpoint_is_a_model_that_plain_transformers_loads(
    make_run: MakeRun, base: Path
) -> None:
    run = make_run(lora=None, learning_rate=RATE)
    train(run)
    told = [event["train_loss"] for event in events(run) if event["kind"] == "metrics"]
    assert told[-1] < told[0] - 0.5
    folder = run.checkpoints / "step-000012"
    assert not (folder / "adapter_config.json").exists()
    before, after = (safetensors.torch.load_file(path / "model.safetensors") for path in (base / "hf", folder))
    assert before.keys() == after.keys()
    assert all(tensor.dtype == torch.bfloat16 for tensor in after.values())
    assert not any(torch.equal(before[name], tensor) for name, tensor in after.items() if tensor.dim() > 1)

    causal = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prove(causal, folder)

    data = huggingface_hub.ModelCard.load(folder / "README.md").data
    assert (data.library_name, data.base_model) == ("transformers", tiny.NAME)
    assert "peft" not in (folder / "README.md").read_text().split("## How to load it")[1]


def test_full_run_stopped_twice_ends_in_the_bytes_of_a_calm_one(make_run: MakeRun) -> None:
    calm, rough = (make_run(name, lora=None, learning_rate=RATE) for name in ("calm", "rough"))
    train(calm)
    train(rough, stop_after=3)
    train(rough, stop_after=7)
    train(rough)
    assert contents(rough) == contents(calm)


def test_full_run_goes_on_from_tuned_weights_and_not_from_an_adapter(make_run: MakeRun, base: Path) -> None:
    parent = make_run("parent", lora=None, learning_rate=RATE)
    train(parent)
    child = make_run("child", lora=None, learning_rate=1e-12, continued=True, n_epochs=1)
    (parent.checkpoints / "step-000012").rename(child.parent)
    train(child)
    kept, found = (
        safetensors.torch.load_file(path / "model.safetensors")
        for path in (child.parent, child.checkpoints / "step-000004")
    )
    assert all(torch.equal(kept[name], tensor) for name, tensor in found.items())
    made = json.loads((child.checkpoints / "step-000004" / "manifest.json").read_bytes())
    assert made["lineage"]["parent_adapter"] == manifest.sha256_of(child.parent / "model.safetensors")

    adapter = make_run("adapter", n_epochs=1)
    train(adapter)
    mixed = make_run("mixed", lora=None, continued=True)
    (adapter.checkpoints / "step-000004").rename(mixed.parent)
    with pytest.raises(InvalidRequest, match="another kind"):
        train(mixed)


def test_preferences_are_refused_where_all_weights_are_tuned(make_run: MakeRun) -> None:
    run = make_run(lora=None, rows=rows.pairs(), method="dpo", beta=0.1)
    with pytest.raises(InvalidRequest, match='tuning = "lora"'):
        train(run)


def test_adapter_does_not_go_on_from_tuned_weights(make_run: MakeRun) -> None:
    parent = make_run("parent", lora=None, n_epochs=1)
    train(parent)
    child = make_run("child", continued=True)
    (parent.checkpoints / "step-000004").rename(child.parent)
    with pytest.raises(InvalidRequest, match="another kind"):
        train(child)
