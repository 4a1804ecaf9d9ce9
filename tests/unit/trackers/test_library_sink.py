"""The processes with trackers' libraries: they may hang, die or be missing, and none is left behind."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import fake_trackio
import tracked
from luthier.core.errors import Unavailable, Unsupported, UpstreamFailed
from luthier.core.states import SinkName
from luthier.trackers.library_sink import MAX_PROCESSES, Library, LibrarySink
from waiting import until

JOBS = [f"ftjob-{number:032x}" for number in range(MAX_PROCESSES + 1)]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(SinkName.TRACKIO, fake_trackio.interpreter(tmp_path), tmp_path / "trackio", "luthier")


@pytest.fixture
def sink(library: Library) -> Iterator[LibrarySink]:
    made = LibrarySink(library, 20.0)
    yield made
    made.close()


def processes() -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if "library_runner.py" in str(each.cmdline())]


def stored(library: Library, job_id: str) -> tracked.Figures:
    rows = fake_trackio.rows(library.folder, "house", job_id)
    return tracked.once([(int(row["step"]), name, row[name]) for row in rows for name in row if name != "step"])


def test_process_that_hangs_is_killed_and_the_next_one_sends_everything(library: Library) -> None:
    impatient = LibrarySink(library, 1.0)
    library.folder.mkdir()
    (library.folder / "hang").touch()
    with pytest.raises(Unavailable, match="died, or took more than 1 s"):
        impatient.deliver(tracked.run(), tracked.points(1, 3), None)
    assert processes() == []
    (library.folder / "hang").unlink()
    patient = LibrarySink(library, 20.0)
    patient.deliver(tracked.run(), tracked.points(1, 3), tracked.end())
    assert stored(library, tracked.JOB) == tracked.expected(tracked.points(1, 3))
    patient.close()


def test_process_that_dies_between_two_deliveries_begins_again(library: Library, sink: LibrarySink) -> None:
    sink.deliver(tracked.run(), tracked.points(1, 7), None)
    [process] = processes()
    process.kill()
    until(lambda: process.status() == psutil.STATUS_ZOMBIE)
    with pytest.raises(Unavailable, match="begins again"):
        sink.deliver(tracked.run(), tracked.points(8, 9), None)
    sink.deliver(tracked.run(), tracked.points(1, 9), tracked.end())
    assert stored(library, tracked.JOB) == tracked.expected(tracked.points(1, 9))
    assert processes() == []


def test_job_beyond_the_limit_of_processes_has_the_oldest_begin_again(library: Library, sink: LibrarySink) -> None:
    for job_id in JOBS:
        sink.deliver(tracked.run(job_id), tracked.points(1, 3), None)
    assert len(processes()) == MAX_PROCESSES
    with pytest.raises(Unavailable, match="begins again"):
        sink.deliver(tracked.run(JOBS[0]), tracked.points(4, 5), None)
    sink.deliver(tracked.run(JOBS[0]), tracked.points(1, 5), tracked.end())
    assert stored(library, JOBS[0]) == tracked.expected(tracked.points(1, 5))
    sink.close()
    assert processes() == []


def test_missing_library_and_missing_interpreter_are_refusals(library: Library, tmp_path: Path) -> None:
    wandb = Library(SinkName.WANDB, library.python, tmp_path / "wandb", "luthier", key="s3cret")
    with pytest.raises(Unsupported, match="wandb is not installed"):
        LibrarySink(wandb, 20.0).deliver(tracked.run(), [], None)
    nowhere = Library(SinkName.TRACKIO, str(tmp_path / "nowhere"), tmp_path, "luthier")
    with pytest.raises(UpstreamFailed, match="cannot be started"):
        LibrarySink(nowhere, 20.0).deliver(tracked.run(), [], None)
    assert "s3cret" not in repr(wandb)


def test_closed_sink_starts_no_process(library: Library, sink: LibrarySink) -> None:
    sink.close()
    with pytest.raises(Unavailable):
        sink.deliver(tracked.run(), [], None)
    assert processes() == []
