"""A rank that is killed, stopped or hangs: the run ends within seconds, and goes on to the bytes of a calm one."""

import random
import signal
import subprocess

import psutil
import pytest

from forked_ranks import to_the_end
from luthier.run_directory.run_directory import EXIT_RANK_LOST, RunDirectory
from luthier.trainer.ranks import rank_processes
from luthier.trainer.ranks.rank_processes import Place
from luthier.trainer.ranks.rank_watch import TIMEOUT_VARIABLE, Heartbeats
from runs import MakeRun, contents, events, start
from waiting import until


def steps(run: RunDirectory) -> int:
    return sum(event["kind"] == "metrics" for event in events(run))


def ranks_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes of a run's ranks, in their order."""
    children = psutil.Process(process.pid).children()
    return [psutil.Process(process.pid), *sorted(children, key=lambda child: int(child.environ()["RANK"]))]


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def killed_at(run: RunDirectory, rank: int, step: int) -> None:
    process = start(run)
    until(lambda: steps(run) >= step or process.poll() is not None, 240)
    assert process.poll() is None, run.log.read_text()
    processes = ranks_of(process)
    processes[rank].kill()
    assert process.wait(30) == -signal.SIGKILL, "the run ends as its rank did"
    until(lambda: gone(processes), 10)


def killed_in_turn(run: RunDirectory, turns: list[tuple[int, int]]) -> None:
    """Attempts at the run, each of which ends by SIGKILL for the rank of a turn once the run has so many steps."""
    for rank, step in turns:
        killed_at(run, rank, step)
    assert events(run)[-1]["kind"] != "succeeded"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("shard_base", [False, True])
def test_each_rank_killed_in_turn_costs_no_byte(make_run: MakeRun, shard_base: bool) -> None:
    calm, rough = (make_run(name, n_epochs=4, ranks=2, shard_base=shard_base) for name in ("calm", "rough"))
    killed_in_turn(rough, [(1, 2)] if shard_base else [(1, 2), (0, 6)])
    assert to_the_end(calm, rough) == [[0, 0], [0, 0]]
    assert contents(rough) == contents(calm)
    assert steps(rough) == 16


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_ranks_killed_at_random_steps_cost_no_byte(make_run: MakeRun) -> None:
    draw = random.Random(18)
    calm, rough = (make_run(name, n_epochs=100, ranks=3) for name in ("calm", "rough"))
    killed_in_turn(rough, [(draw.randrange(3), step) for step in sorted(draw.sample(range(1, 360), 12))])
    assert to_the_end(calm, rough) == [[0] * 3, [0] * 3]
    assert contents(rough) == contents(calm)


@pytest.mark.timeout(600)
def test_ranks_told_to_stop_and_paused_save_and_go_on_to_the_same_bytes(make_run: MakeRun) -> None:
    calm, rough = (make_run(name, n_epochs=4, ranks=2) for name in ("calm", "rough"))
    stopped = start(rough)
    until(lambda: steps(rough) >= 3, 240)
    processes = ranks_of(stopped)
    stopped.terminate()
    assert stopped.wait(60) == 0
    until(lambda: gone(processes), 10)
    saved = max(event["step"] for event in events(rough) if event["kind"] == "saved")
    assert saved == steps(rough), "the step is finished and saved"
    assert not rough.under_way.exists()

    rough.pause.touch()
    paused = start(rough)
    assert paused.wait(240) == 0
    assert events(rough)[-1]["kind"] == "paused"
    folder = events(rough)[-1]["folder"]
    assert (rough.checkpoints / folder / "meta.json").exists()
    rough.pause.unlink()

    assert to_the_end(calm, rough) == [[0, 0], [0, 0]]
    ours = {name: data for name, data in contents(rough).items() if f"/{folder}/" not in f"/{name}"}
    assert ours == contents(calm)


@pytest.mark.timeout(600)
def test_rank_that_hangs_is_given_up_after_the_timeout(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIMEOUT_VARIABLE, "3")
    run = make_run(n_epochs=1000, ranks=2)
    process = start(run)
    until(lambda: steps(run) >= 3, 240)
    processes = ranks_of(process)
    processes[1].suspend()
    assert process.wait(60) == EXIT_RANK_LOST
    until(lambda: gone(processes), 10)
    assert "rank 1 has not answered for 3 s" in run.log.read_text()
    assert not any(event["kind"] == "failed" for event in events(run))


def test_heartbeats_count_a_rank_as_lost_only_while_it_does_not_count() -> None:
    now = [0.0]
    beats = Heartbeats([1, 2], lambda: now[0])
    beats.note({1: 1, 2: 1})
    now[0] = 50
    beats.note({1: 2, 2: 1})
    assert beats.lost(60) is None
    now[0] = 61
    assert beats.lost(60) == 2
    beats.note({1: 2, 2: 2})
    assert beats.lost(60) is None


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, None),
        ({"RANK": "0"}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, Place()),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, Place(1, 2)),
    ],
)
def test_place_is_read_from_the_variables_of_launchers(environment: dict[str, str], place: Place | None) -> None:
    assert rank_processes.place_given(environment) == place


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
        {"RANK": "0", "WORLD_SIZE": "2"},
        {"RANK": "x", "WORLD_SIZE": "2"},
    ],
)
def test_place_that_cannot_be_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        rank_processes.place_given(environment)


def test_run_started_with_another_number_of_ranks_is_wrong_usage(make_run: MakeRun) -> None:
    run = make_run(ranks=3)
    with pytest.raises(ValueError, match="3 ranks"):
        rank_processes.require_size(Place(0, 2), run)
