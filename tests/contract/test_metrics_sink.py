"""One suite for every implementation of MetricsSink: whatever is sent again, each figure is there once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import fake_mlflow
import fake_trackio
import tracked
from luthier.core.ports import MetricsSink
from luthier.core.states import SinkName, TrackedStatus
from luthier.core.training.tracking import MlflowTarget
from luthier.trackers.library_sink import Library, LibrarySink
from luthier.trackers.mlflow_sink import MlflowSink
from luthier.trackers.tensorboard_sink import OUTCOME, PARAMS, TensorBoardSink
from tracked import JOB


@dataclass(frozen=True)
class Case:
    make: Callable[[], MetricsSink]
    """A sink as a new process has it."""
    stored: Callable[[], list[tuple[int, str, float]]]
    """Step, name and value of all that the tracker has of the job; without values 0.0."""


@pytest.fixture(params=["tensorboard", "mlflow", "trackio"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    match request.param:
        case "tensorboard":
            skipped = {PARAMS, OUTCOME}

            def stored() -> list[tuple[int, str, float]]:
                rows = tracked.tags_and_steps(tracked.event_file(tmp_path / "tb", JOB))
                return [row for row in rows if row[1] not in skipped]

            yield Case(lambda: TensorBoardSink(tmp_path / "tb"), stored)
        case "mlflow":
            with fake_mlflow.running() as fake:
                yield Case(
                    lambda: MlflowSink(MlflowTarget(fake.uri), "luthier", 10.0),
                    lambda: [(m["step"], m["key"], m["value"]) for m in fake.run_of(JOB)["metrics"]],
                )
        case _:
            library = Library(SinkName.TRACKIO, fake_trackio.interpreter(tmp_path), tmp_path / "trackio", "p")
            yield Case(
                lambda: LibrarySink(library, 20.0),
                lambda: [
                    (int(row["step"]), name, value)
                    for row in fake_trackio.rows(tmp_path / "trackio", "house", JOB)
                    for name, value in row.items()
                    if name != "step"
                ],
            )


def steps_and_names(case: Case) -> set[tuple[int, str]]:
    return set(tracked.once(case.stored()))


def test_points_of_several_deliveries_are_there_once_at_the_end(case: Case) -> None:
    sink = case.make()
    for first in (1, 4, 7):
        delivery = sink.deliver(tracked.run(), tracked.points(first, first + 2), None)
    assert sink.deliver(tracked.run(run_id=delivery.run_id), [], tracked.end()).run_id == delivery.run_id
    assert steps_and_names(case) == set(tracked.expected(tracked.points(1, 9)))
    sink.close()


def test_points_sent_again_to_a_new_process_are_there_once(case: Case) -> None:
    sink = case.make()
    delivery = sink.deliver(tracked.run(), tracked.points(1, 7), None)
    unconfirmed = [point for point in tracked.points(1, 12) if point.seq > delivery.confirmed]
    sink.close()
    again = case.make()
    assert again.deliver(tracked.run(), unconfirmed, tracked.end()).run_id == delivery.run_id
    again.close()
    everything = case.make()
    everything.deliver(tracked.run(), tracked.points(1, 12), tracked.end())
    everything.close()
    assert steps_and_names(case) == set(tracked.expected(tracked.points(1, 12)))


def test_points_sent_again_to_the_same_process_are_there_once(case: Case) -> None:
    sink = case.make()
    sink.deliver(tracked.run(), tracked.points(1, 7), None)
    sink.deliver(tracked.run(), tracked.points(8, 9), None)
    sink.forget(JOB)
    delivery = sink.deliver(tracked.run(), tracked.points(1, 9), tracked.end(TrackedStatus.KILLED))
    assert delivery.place
    sink.close()
    assert steps_and_names(case) == set(tracked.expected(tracked.points(1, 9)))


def test_run_without_points_can_end(case: Case) -> None:
    sink = case.make()
    assert sink.deliver(tracked.run(), [], tracked.end(TrackedStatus.FAILED)).run_id
    sink.close()
    sink.close()
    assert case.stored() == []
