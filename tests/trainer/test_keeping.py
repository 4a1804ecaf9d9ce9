"""Which checkpoints get probes and when: of small epochs those that stay, with the bytes of a run that proves each."""

from collections.abc import Callable
from typing import Any

import pytest

from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Succeeded
from luthier.trainer import loop
from luthier.trainer.model import probes
from luthier.trainer.run import checkpoint_retention
from luthier.trainer.run.event_log import EventLog
from runs import MakeRun, contents, events
from training import OVERFIT

MEMORIZED: dict[str, Any] = {"n_epochs": 6, "batch_size": 5, "keep_checkpoints": 2}


def trained(run: RunDirectory, stop: Callable[[], bool] = lambda: False) -> Succeeded | None:
    return loop.train(run, run.read_spec(), EventLog(run), stop)


def told(run: RunDirectory, kind: str) -> list[int]:
    return [event["epoch"] for event in events(run) if event["kind"] == kind]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled with an entry for each computation of probes."""
    made: list[int] = []
    compute = probes.compute

    def counted(*arguments: Any) -> bytes:
        made.append(1)
        return compute(*arguments)

    monkeypatch.setattr(probes, "compute", counted)
    return made


def test_small_epochs_prove_what_stays_alone_and_end_in_the_bytes_of_a_run_that_proves_each(
    make_run: MakeRun, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy, eager = make_run("lazy", **MEMORIZED), make_run("eager", **MEMORIZED)
    assert trained(lazy) is not None
    assert len(computed) == 2
    assert (told(lazy, "held"), told(lazy, "checkpoint")) == ([1, 2, 3, 4], [5, 6])
    monkeypatch.setattr(checkpoint_retention, "SMALL_EPOCH_TOKENS", 0)
    assert trained(eager) is not None
    assert len(computed) == 2 + 6
    assert told(eager, "checkpoint") == [1, 2, 3, 4, 5, 6]
    assert contents(lazy) == contents(eager)


def test_best_epoch_that_is_older_is_proven_from_its_stored_weights(
    make_run: MakeRun, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy, eager = make_run("lazy", **OVERFIT), make_run("eager", **OVERFIT)
    assert trained(lazy) is not None
    assert told(lazy, "checkpoint")[0] < 6, "the set does overfit"
    assert len(computed) == 4
    assert told(lazy, "checkpoint") == sorted(told(lazy, "checkpoint"))
    monkeypatch.setattr(checkpoint_retention, "SMALL_EPOCH_TOKENS", 0)
    assert trained(eager) is not None
    assert contents(lazy) == contents(eager)


def test_run_that_stops_early_proves_what_it_keeps(
    make_run: MakeRun, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy, eager = (
        make_run(name, **{**OVERFIT, "n_epochs": 20, "early_stop_patience": 2}) for name in ("lazy", "eager")
    )
    verdict = trained(lazy)
    assert verdict is not None
    assert len(computed) == 3
    monkeypatch.setattr(checkpoint_retention, "SMALL_EPOCH_TOKENS", 0)
    again = trained(eager)
    assert again is not None
    assert again.model_step == verdict.model_step
    assert contents(lazy) == contents(eager)


def test_run_whose_held_checkpoint_is_gone_begins_again_to_the_same_end(make_run: MakeRun) -> None:
    calm, robbed = make_run("calm", **MEMORIZED), make_run("robbed", **MEMORIZED)
    assert trained(calm) is not None
    left = iter([False] * 5)
    assert trained(robbed, lambda: next(left, True)) is None
    (robbed.checkpoints / "step-000004" / "README.md").unlink()
    assert trained(robbed) is not None
    assert contents(robbed) == contents(calm)


def test_all_weights_are_proven_at_once(make_run: MakeRun) -> None:
    run = make_run(**{**MEMORIZED, "n_epochs": 3, "keep_checkpoints": 1, "lora": None, "learning_rate": 1e-3})
    assert trained(run) is not None
    assert (told(run, "held"), told(run, "checkpoint")) == ([], [1, 2, 3])
