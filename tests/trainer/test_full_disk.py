"""A disk that is full: the run ends in a clear verdict or a status of its own, and no file is half written."""

import resource
from pathlib import Path

import pytest

from disk import full_disk
from luthier.core.errors import NoSpace
from luthier.run_directory.run_directory import EXIT_DISK_FULL, RunDirectory
from luthier.trainer import loop
from luthier.trainer.run.event_log import EventLog
from runs import MakeRun, contents, events, start


def limited(run: RunDirectory, n_bytes: int) -> int:
    """Runs the trainer as a process none of whose files may grow past `n_bytes`; returns its status."""
    process = start(run)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
    return process.wait()


def test_state_that_does_not_fit_is_the_verdict_with_how_much_and_without_a_path(make_run: MakeRun) -> None:
    run = make_run()
    assert limited(run, 20_000) == 0
    verdict = events(run)[-1]
    assert (verdict["kind"], verdict["code"]) == ("failed", "disk_full")
    assert str(run.path) not in verdict["message"]
    assert str(run.path) in run.log.read_text()
    assert " kB, " in verdict["message"]
    assert list(run.path.rglob(".*.tmp")) == []


def test_disk_without_room_for_a_verdict_is_told_by_the_status_and_the_run_goes_on_when_there_is(
    make_run: MakeRun,
) -> None:
    calm, rough = make_run("calm", n_epochs=1), make_run("rough", n_epochs=1)
    assert limited(rough, 300) == EXIT_DISK_FULL
    kinds = [event["kind"] for event in events(rough)]
    assert set(kinds) <= {"message"}
    assert rough.events.read_bytes().endswith(b"\n")
    assert start(rough).wait() == 0
    assert start(calm).wait() == 0
    assert contents(rough) == contents(calm)


@pytest.mark.parametrize("room", [400, 1500, 20_000, 60_000])
def test_run_that_the_disk_stops_anywhere_goes_on_to_the_bytes_of_a_calm_one(
    make_run: MakeRun, tmp_path: Path, room: int
) -> None:
    calm, rough = make_run("calm"), make_run("rough")
    loop.train(calm, calm.read_spec(), EventLog(calm), lambda: False)
    with full_disk(room), pytest.raises(NoSpace):
        loop.train(rough, rough.read_spec(), EventLog(rough), lambda: False)
    loop.train(rough, rough.read_spec(), EventLog(rough), lambda: False)
    assert contents(rough) == contents(calm)
    assert [event["step"] for event in events(rough) if event["kind"] == "metrics"] == list(range(1, 13))
