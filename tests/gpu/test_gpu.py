"""The trainer on a real GPU beside the same on the CPU; skipped where there is none."""

from pathlib import Path

import pytest
import torch

from equality import randomise, with_gradients
from luthier.data.rendering.renderer import Rendered
from luthier.run_directory.run_directory import DEVICE_VARIABLE
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer import loop
from luthier.trainer.model import devices, layer_wrappers, tuned_model
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.objectives import evaluate, sft
from luthier.trainer.run.event_log import EventLog
from runs import TARGETS, MakeRun, contents, events

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason=f"torch {torch.__version__} finds no GPU on this machine"),
]

RECIPE = LoraRecipe(rank=4, alpha=8, targets=TARGETS)
BEGINNING = tuple(range(7, 47))
ROWS = [
    Rendered(token_ids, (0.0,) + (1.0,) * (len(token_ids) - 1), 1)
    for token_ids in ((*BEGINNING, 1, 2), (*BEGINNING, *range(60, 75)), tuple(range(100, 399)), (9, 10, 30))
]


def tuned(base: Path, name: str, dtype: torch.dtype) -> TunedModel:
    tuned_model.configure_process(2, 0)
    made = randomise(
        tuned_model.attach_adapter(tuned_model.load_base(base, dtype, torch.device(name)), RECIPE, 0, None)
    )
    for parameter in made.parameters.values():
        parameter.data = parameter.data.to(name)
    return made


def outcome(made: TunedModel) -> tuple[float, torch.Tensor]:
    loss, gradients = with_gradients(made, lambda: sft.gradients(made, ROWS, 10_000).loss)
    return loss, torch.cat([gradients[name].cpu().flatten() for name in sorted(gradients)])


def test_step_in_bf16_is_as_near_to_float32_as_the_cpu_is(base: Path) -> None:
    exact, near = outcome(tuned(base, "cpu", torch.float32)), outcome(tuned(base, "cpu", torch.bfloat16))
    on_gpu = tuned(base, "cuda", torch.bfloat16)
    assert on_gpu.varlen
    found = outcome(on_gpu)
    assert float((found[1] - exact[1]).norm()) <= 2 * float((near[1] - exact[1]).norm())
    assert found[0] == pytest.approx(exact[0], rel=5e-3)
    again = outcome(on_gpu)
    assert found[0] == again[0]
    assert torch.equal(found[1], again[1])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("recompute", "compiled"), [(True, False), (False, True), (True, True)])
def test_wrapped_layers_on_a_gpu_give_the_same_to_rounding(base: Path, recompute: bool, compiled: bool) -> None:
    plain, wrapped = tuned(base, "cuda", torch.bfloat16), tuned(base, "cuda", torch.bfloat16)
    layer_wrappers.wrap(wrapped.backbone, recompute, compiled, False)
    one, other = outcome(plain), outcome(wrapped)
    assert other[0] == pytest.approx(one[0], rel=5e-3)
    assert float((other[1] - one[1]).norm()) <= 0.03 * float(one[1].norm())


def test_validation_on_a_gpu_is_that_of_the_cpu_to_rounding(base: Path) -> None:
    found = [evaluate.evaluate(tuned(base, name, torch.bfloat16), ROWS) for name in ("cpu", "cuda")]
    assert found[0].loss == pytest.approx(found[1].loss, rel=5e-3)


def test_step_on_a_gpu_does_not_wait_for_it(base: Path) -> None:
    made = tuned(base, "cuda", torch.bfloat16)
    sft.gradients(made, ROWS, 10_000)
    torch.cuda.set_sync_debug_mode("error")
    try:
        sft.gradients(made, ROWS, 10_000)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_run_on_a_gpu_ends_well_and_goes_on_from_its_save(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEVICE_VARIABLE, "cuda")
    whole, stopped = make_run("whole"), make_run("stopped")
    for run in (whole, stopped):
        stop = iter([run is stopped and looks > 8 for looks in range(100)])
        verdict = loop.train(run, run.read_spec(), EventLog(run), stop.__next__)
        assert (verdict is None) == (run is stopped)
    assert loop.train(stopped, stopped.read_spec(), EventLog(stopped), lambda: False) is not None
    losses = [[event["train_loss"] for event in events(run) if event["kind"] == "metrics"] for run in (whole, stopped)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    assert contents(whole).keys() == contents(stopped).keys()
    assert b'"gpu": null' not in contents(whole)["checkpoints/step-000012/manifest.json"]


def test_free_memory_of_a_gpu_is_told() -> None:
    place = devices.choose_device()
    assert place.type == "cuda"
    assert 0 < devices.free_bytes(place) <= torch.cuda.get_device_properties(place).total_memory
