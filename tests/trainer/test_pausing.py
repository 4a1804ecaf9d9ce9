"""A run that is asked to pause leaves a checkpoint and goes on later as if nothing had been."""

import json
import math

import pytest
import safetensors.torch

from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import RunEvent, Succeeded
from luthier.trainer import loop
from luthier.trainer.run.event_log import EventLog
from runs import MakeRun, contents, events


class PausingEventLog(EventLog):
    """Asks the run to pause as soon as the metrics of a step are written."""

    def __init__(self, run: RunDirectory, step: int) -> None:
        super().__init__(run)
        self.wish, self.pause_at = run.pause, step

    def write(self, event: RunEvent) -> None:
        super().write(event)
        if event.kind == "metrics" and event.step == self.pause_at:
            self.wish.touch()


def train(run: RunDirectory, pause_at: int | None = None) -> Succeeded | None:
    event_log = EventLog(run) if pause_at is None else PausingEventLog(run, pause_at)
    return loop.train(run, run.read_spec(), event_log, run.pause.exists)


@pytest.mark.parametrize("step", [6, 8])  # in the middle of the second epoch of four steps, and at its end
def test_pause_leaves_a_checkpoint_and_the_resumed_run_ends_in_the_bytes_of_a_calm_one(
    make_run: MakeRun, step: int
) -> None:
    calm, rough = make_run("calm", n_epochs=5), make_run("rough", n_epochs=5)
    train(calm)
    assert train(rough, pause_at=step) is None
    folder = f"step-{step:06d}"
    last = events(rough)[-1]
    assert (last["kind"], last["step"], last["folder"]) == ("paused", step, folder)
    assert math.isfinite(last["metrics"]["train_loss"])
    meta = json.loads((rough.checkpoints / folder / "meta.json").read_bytes())
    assert (meta["step"], meta["epoch"]) == (step, 2)
    assert json.loads((rough.checkpoints / folder / "probes.json").read_bytes())["probes"]
    assert safetensors.torch.load_file(rough.checkpoints / folder / "adapter_model.safetensors")

    rough.pause.unlink()
    assert train(rough) is not None
    extra = {f"checkpoints/{folder}"} if step % 4 else set()
    ours = {name: data for name, data in contents(rough).items() if name.rpartition("/")[0] not in extra}
    assert ours == contents(calm)
    metrics = [event["step"] for event in events(rough) if event["kind"] == "metrics"]
    assert metrics == list(range(1, 21))
    dropped = [[e.get("dropped", []) for e in events(run) if e["kind"] == "checkpoint"] for run in (calm, rough)]
    assert dropped[0] == dropped[1]


def test_wish_to_pause_at_the_last_step_is_too_late(make_run: MakeRun) -> None:
    run = make_run(n_epochs=1)
    assert train(run, pause_at=4) is not None
    assert "paused" not in [event["kind"] for event in events(run)]
