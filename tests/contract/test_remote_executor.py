"""The contract of the port Executor over runs on a cluster: real runners, a faked Ray head, a store in a folder."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from fake_ray import FakeRay
from luthier.core.errors import Unavailable
from luthier.core.states import RunState
from luthier.core.training.executor_port import Ending, RunNeeds
from luthier.executors.local import LocalExecutor
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Failed, Paused
from luthier.run_directory.shipped_run import Beat, RunnerEnd, StartManifest
from remote import QUICK, SUPPORT, Cluster, light_run, lose, node_python, verdict

LIGHT = SUPPORT / "light_trainer.py"
SLEEPER = "#!/bin/sh\nexec sleep 60\n"
STUBBORN = "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n"


@pytest.fixture
def ray() -> Iterator[FakeRay]:
    with FakeRay() as head:
        yield head


@pytest.fixture
def cluster(ray: FakeRay, tmp_path: Path) -> Cluster:
    """A cluster whose trainers are the light one."""
    return Cluster(ray, tmp_path, node_python(tmp_path, LIGHT))


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return light_run(tmp_path / "ftjob-1")


def trainers(ray: FakeRay, id: str) -> list[psutil.Process]:
    """The processes that a node's runner has started as trainers."""
    found = []
    for process in ray.processes(id):
        with suppress(psutil.NoSuchProcess):
            if "sleep" in process.name() or "trainer-program" in " ".join(process.cmdline()[:3]):
                found.append(process)
    return [one for one in found if "luthier.runner" not in one.cmdline()]


def test_run_is_alive_until_it_has_ended_and_all_that_it_wrote_is_here(cluster: Cluster, run: RunDirectory) -> None:
    handle = cluster.executor.start(run.path, 1)
    assert cluster.executor.look(handle) is RunState.ALIVE
    cluster.until_gone(run, handle)
    assert verdict(run) is not None
    assert run.results.exists()
    assert cluster.executor.ending(handle) == Ending(exit_status=0)
    assert cluster.restarted().look(handle) is RunState.GONE, "by what the runner has left, not by what we remember"
    cluster.executor.stop(handle)
    cluster.executor.kill(handle)


def test_start_of_the_same_attempt_twice_is_one_process_and_the_same_handle(
    cluster: Cluster, run: RunDirectory, ray: FakeRay
) -> None:
    first = cluster.executor.start(run.path, 1)
    assert cluster.restarted().start(run.path, 1) == first, "Ray's `already exists` is no error"
    assert len(ray.jobs) == 1
    cluster.until_gone(run, first)


def test_started_run_is_found_by_a_service_that_crashed_before_it_stored_the_handle(
    cluster: Cluster, run: RunDirectory, ray: FakeRay
) -> None:
    assert cluster.executor.find(run.path, 1) is None
    handle = cluster.executor.start(run.path, 1)
    assert cluster.restarted().find(run.path, 1) == handle
    assert cluster.executor.find(run.path, 2) is None
    cluster.until_gone(run, handle)
    assert cluster.executor.find(run.path, 1) is None


def test_opened_attempt_that_was_never_submitted_is_not_found_and_is_started(
    cluster: Cluster, run: RunDirectory, ray: FakeRay
) -> None:
    ray.silent = True
    with pytest.raises(Unavailable):
        cluster.executor.start(run.path, 1)
    ray.silent = False
    assert cluster.restarted().find(run.path, 1) is None
    cluster.until_gone(run, cluster.executor.start(run.path, 1))
    assert verdict(run) is not None


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("text", [SLEEPER, STUBBORN])
def test_run_that_is_ended_is_gone_with_its_trainer(
    ray: FakeRay, tmp_path: Path, run: RunDirectory, end: str, text: str
) -> None:
    cluster = Cluster(ray, tmp_path, node_python(tmp_path, text), replace(QUICK, stop_grace_s=0.5))
    handle = cluster.executor.start(run.path, 1)
    cluster.wait_until(lambda: trainers(ray, "ftjob-1-1"))
    getattr(cluster.executor, end)(handle)
    assert cluster.executor.look(handle) is RunState.GONE
    cluster.wait_until(lambda: ray.processes("ftjob-1-1") == [])


def test_run_that_takes_longer_than_our_patience_to_stop_is_left_to_the_next_call(
    ray: FakeRay, tmp_path: Path, run: RunDirectory
) -> None:
    cluster = Cluster(ray, tmp_path, node_python(tmp_path, STUBBORN), replace(QUICK, stop_grace_s=2, patience_s=0.1))
    handle = cluster.executor.start(run.path, 1)
    cluster.wait_until(lambda: trainers(ray, "ftjob-1-1"))
    with pytest.raises(Unavailable):
        cluster.executor.stop(handle)
    cluster.wait_until(lambda: cluster.executor.look(handle) is RunState.GONE)
    cluster.executor.stop(handle)


def test_stopped_run_has_shipped_its_last_step_and_the_next_attempt_continues_there(
    ray: FakeRay, cluster: Cluster, tmp_path: Path
) -> None:
    run = light_run(tmp_path / "ftjob-2", n_steps=100)
    handle = cluster.executor.start(run.path, 1)

    def has_begun() -> bool:
        cluster.executor.sync(run.path, handle)
        return len(list(run.tail())) > 5

    cluster.wait_until(has_begun)
    cluster.executor.stop(handle)
    cluster.until_gone(run, handle)
    last = [event for event, _ in run.tail()][-1]
    assert last.kind == "saved"
    assert not run.under_way.exists(), "it left in order"
    start = cluster.executor.start(run.path, 2)
    assert cluster.shipped(run).start(2).interrupted is False
    cluster.until_gone(run, start)
    steps = [event.step for event, _ in run.tail() if event.kind == "metrics"]
    assert steps == list(range(1, 101))


def test_pause_reaches_the_node_and_its_checkpoint_comes_back(ray: FakeRay, cluster: Cluster, tmp_path: Path) -> None:
    run = light_run(tmp_path / "ftjob-2", n_steps=500)
    handle = cluster.executor.start(run.path, 1)
    run.pause.touch()
    cluster.until_gone(run, handle)
    last = [event for event, _ in run.tail()][-1]
    assert isinstance(last, Paused)
    assert (run.checkpoints / last.folder / "meta.json").exists()
    cluster.executor.look(handle)
    assert cluster.executor.ending(handle) == Ending(exit_status=0)


def test_failed_of_ray_is_not_believed_while_the_heart_beats_and_is_counted(
    ray: FakeRay, tmp_path: Path, run: RunDirectory
) -> None:
    cluster = Cluster(ray, tmp_path, node_python(tmp_path, SLEEPER), replace(QUICK, lease_s=1.2))
    handle = cluster.executor.start(run.path, 1)
    cluster.wait_until(lambda: trainers(ray, "ftjob-1-1"))
    ray.lies["ftjob-1-1"] = "FAILED"
    ended = time.monotonic() + 3
    while time.monotonic() < ended:
        assert cluster.executor.look(handle) is RunState.ALIVE
    assert cluster.executor.wrong_words == 1
    cluster.executor.kill(handle)


def test_head_that_has_lost_its_memory_does_not_end_a_run_that_beats(
    ray: FakeRay, cluster: Cluster, run: RunDirectory
) -> None:
    handle = cluster.executor.start(run.path, 1)
    cluster.wait_until(lambda: cluster.shipped(run).beat(1))
    ray.forget()
    assert cluster.restarted().find(run.path, 1) == handle
    cluster.until_gone(run, handle)
    assert verdict(run) is not None
    ray.jobs = ray.old


def test_silent_head_is_unknown_once_the_lease_is_over_and_never_before(
    ray: FakeRay, tmp_path: Path, run: RunDirectory
) -> None:
    cluster = Cluster(ray, tmp_path, node_python(tmp_path, SLEEPER), replace(QUICK, lease_s=2.0))
    handle = cluster.executor.start(run.path, 1)
    cluster.wait_until(lambda: trainers(ray, "ftjob-1-1"))
    ray.silent = True
    assert cluster.executor.look(handle) is RunState.ALIVE
    ray.kill("ftjob-1-1")
    cluster.wait_until(lambda: cluster.executor.look(handle) is not RunState.ALIVE)
    assert cluster.executor.look(handle) is RunState.UNKNOWN
    ray.silent = False
    cluster.wait_until(lambda: cluster.executor.look(handle) is RunState.GONE)


def test_node_that_is_cut_off_is_gone_after_the_lease_and_what_it_ships_later_is_not_read(
    ray: FakeRay, tmp_path: Path
) -> None:
    run = light_run(tmp_path / "ftjob-2", n_steps=150)
    cluster = Cluster(ray, tmp_path, node_python(tmp_path, LIGHT), replace(QUICK, lease_s=1.5))
    handle = cluster.executor.start(run.path, 1)

    def has_begun() -> bool:
        cluster.executor.sync(run.path, handle)
        return len(list(run.tail())) > 5

    cluster.wait_until(has_begun)
    asleep = ray.processes("ftjob-2-1")
    for process in asleep:  # a suspended machine: Ray calls it RUNNING for a while yet
        process.send_signal(signal.SIGSTOP)
    cluster.wait_until(lambda: cluster.executor.look(handle) is RunState.GONE)
    cluster.executor.sync(run.path, handle)
    next_handle = cluster.executor.start(run.path, 2)
    opened = cluster.shipped(run).start(2)
    assert opened is not None
    assert opened.interrupted
    for process in reversed(asleep):  # it wakes while the next attempt trains
        process.send_signal(signal.SIGCONT)
    cluster.until_gone(run, next_handle)
    cluster.wait_until(lambda: ray.processes("ftjob-2-1") == [])
    assert cluster.executor.look(next_handle) is RunState.GONE
    steps = [event.step for event, _ in run.tail() if event.kind == "metrics"]
    assert steps == list(range(1, 151))
    before = run.events.read_bytes()
    cluster.restarted().sync(run.path, next_handle)
    assert run.events.read_bytes() == before


def test_node_that_cannot_ship_for_half_its_lease_ends_its_trainer(
    ray: FakeRay, tmp_path: Path, run: RunDirectory
) -> None:
    cluster = Cluster(ray, tmp_path, node_python(tmp_path, SLEEPER), replace(QUICK, lease_s=2.0))
    cluster.executor.start(run.path, 1)
    cluster.wait_until(lambda: trainers(ray, "ftjob-1-1") and cluster.shipped(run).beat(1))
    store = tmp_path / "store"
    store.rename(tmp_path / "away")
    store.write_text("no folder: nothing can be stored")
    cluster.wait_until(lambda: ray.processes("ftjob-1-1") == [])
    assert ray.jobs["ftjob-1-1"].status() == ("FAILED", 76)


def test_runner_that_is_killed_takes_its_trainer_with_it_and_an_exit_code_is_believed_at_once(
    ray: FakeRay, tmp_path: Path, run: RunDirectory
) -> None:
    cluster = Cluster(ray, tmp_path, node_python(tmp_path, SLEEPER), replace(QUICK, lease_s=60))
    handle = cluster.executor.start(run.path, 1)
    cluster.wait_until(lambda: trainers(ray, "ftjob-1-1"))
    trainer = trainers(ray, "ftjob-1-1")[0]
    ray.processes("ftjob-1-1")[0].kill()
    cluster.wait_until(lambda: cluster.executor.look(handle) is RunState.GONE, limit_s=40)
    assert cluster.executor.ending(handle) == Ending()
    cluster.wait_until(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE)


def test_end_of_a_trainer_is_known_by_its_status_or_signal(ray: FakeRay, tmp_path: Path) -> None:
    cases = [("exit 65", Ending(exit_status=65)), ("kill -SEGV $$", Ending(signal=signal.SIGSEGV))]
    for number, (text, expected) in enumerate(cases):
        run = light_run(tmp_path / f"ftjob-{number}")
        cluster = Cluster(ray, tmp_path, node_python(tmp_path, f"#!/bin/sh\necho last words\n{text}\n"))
        handle = cluster.executor.start(run.path, 1)
        cluster.until_gone(run, handle)
        assert cluster.executor.ending(handle) == expected
        cluster.executor.sync(run.path, handle)
        assert run.log.read_text().count("last words") == 1
        assert run.under_way.exists()


def test_base_model_that_the_node_lacks_fails_the_job_with_words_for_the_operator(
    cluster: Cluster, run: RunDirectory
) -> None:
    cluster.ray.environment["LUTHIER_MODELS_DIR"] = str(cluster.folder / "none")
    cluster.until_gone(run, cluster.executor.start(run.path, 1))
    failed = verdict(run)
    assert isinstance(failed, Failed)
    assert failed.code == "base_model_missing"
    assert "LUTHIER_MODELS_DIR" in failed.message


def test_base_model_is_the_nodes_own_if_it_names_a_folder(cluster: Cluster, run: RunDirectory) -> None:
    (cluster.folder / "base").rename(cluster.folder / "elsewhere")
    cluster.ray.environment["LUTHIER_MODELS_DIR"] = str(cluster.folder / "elsewhere")
    cluster.until_gone(run, cluster.executor.start(run.path, 1))
    assert verdict(run) is not None
    assert not isinstance(verdict(run), Failed)


def test_mirror_that_is_lost_is_rebuilt_byte_for_byte(cluster: Cluster, run: RunDirectory) -> None:
    handle = cluster.executor.start(run.path, 1)
    cluster.until_gone(run, handle)
    cluster.executor.sync(run.path, handle)
    before = {path.relative_to(run.path): path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    lose(run)
    cluster.restarted().look(handle)
    for _ in range(2):  # what a later event drops is deleted a pass after it
        cluster.executor.sync(run.path, handle)
    assert {path.relative_to(run.path): path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_torn_chunk_in_the_mirror_is_read_again(cluster: Cluster, run: RunDirectory) -> None:
    handle = cluster.executor.start(run.path, 1)
    cluster.until_gone(run, handle)
    whole = run.events.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 7):
        os.truncate(run.events, size)
        cluster.restarted().sync(run.path, handle)
        assert run.events.read_bytes() == whole


def test_mirror_of_another_supervisor_that_read_an_attempt_further_begins_anew(
    cluster: Cluster, run: RunDirectory
) -> None:
    handle = cluster.executor.start(run.path, 1)
    cluster.until_gone(run, handle)
    whole = run.events.read_bytes()
    run.events.write_bytes(
        whole.replace(b'"step":3', b'"step":8') + b'{"kind":"message","at":0,"message":"of another"}\n'
    )
    cluster.restarted().sync(run.path, handle)
    assert run.events.read_bytes() == whole


def test_chunk_cannot_name_files_outside_of_a_trainers_outputs(cluster: Cluster, run: RunDirectory) -> None:
    handle = cluster.executor.start(run.path, 1)
    cluster.until_gone(run, handle)
    shipped = cluster.shipped(run)
    chunk = shipped.chunk(1, 0)
    assert chunk is not None
    file = next(file for file in shipped.start(1).files if file.path == "spec.json")
    end = run.events.stat().st_size
    shipped.create_chunk(1, chunk.model_copy(update={"offset": end, "files": (file, *chunk.files)}))
    run.spec.unlink()
    (run.path / "marker").touch()
    cluster.executor.sync(run.path, handle)
    assert (run.path / "marker").exists()
    with pytest.raises(ValueError, match="path"):
        type(file)(path="../spec.json", key=file.key, bytes=1, sha256=file.sha256)


def test_discarded_run_leaves_nothing_in_the_store_and_a_node_that_works_on_it_leaves(
    ray: FakeRay, tmp_path: Path, run: RunDirectory
) -> None:
    cluster = Cluster(ray, tmp_path, node_python(tmp_path, SLEEPER))
    handle = cluster.executor.start(run.path, 1)
    cluster.wait_until(lambda: trainers(ray, "ftjob-1-1"))
    cluster.executor.discard(run.path)
    cluster.wait_until(lambda: ray.processes("ftjob-1-1") == [])
    cluster.wait_until(lambda: not [path for path in (tmp_path / "store").rglob("*") if path.is_file()])
    cluster.executor.discard(run.path)
    assert cluster.executor.look(handle) is RunState.GONE, "whatever the scheduler says of it"
    assert cluster.executor.room()[0].cpus == 2.0, "and it takes no room"


def test_inputs_are_stored_once_for_all_attempts(cluster: Cluster, run: RunDirectory) -> None:
    cluster.until_gone(run, cluster.executor.start(run.path, 1))
    stored = cluster.shipped(run).input_names()
    cluster.executor.start(run.path, 2)
    added = cluster.shipped(run).input_names() - stored
    assert len(added) == 1, "the event log so far, and nothing that was there"


def test_room_is_what_the_nodes_have_less_runs_that_ray_does_not_show_yet(
    ray: FakeRay, tmp_path: Path, run: RunDirectory
) -> None:
    cluster = Cluster(ray, tmp_path, node_python(tmp_path, SLEEPER))
    (room,) = cluster.executor.room()
    assert (room.name, room.cpus, room.gpus, room.memory_bytes) == ("10.0.0.1", 2.0, 0.0, 3 << 30)
    assert room.labels == {"zone": "one"}
    ray.usage = "0.0/2.0 CPU\n0B/4.00GiB memory"  # some seconds old
    handle = cluster.executor.start(run.path, 1, RunNeeds(cpus=1.5, memory_bytes=1 << 30))
    (room,) = cluster.executor.room()
    assert (room.cpus, room.memory_bytes) == (0.5, 3 << 30)
    body = ray.jobs["ftjob-1-1"].body
    assert (body["entrypoint_num_cpus"], body["entrypoint_memory"]) == (1.5, 1 << 30)
    cluster.executor.kill(handle)
    assert cluster.executor.room()[0].cpus == 2.0


def test_run_that_ray_keeps_waiting_is_given_up_and_told_so(ray: FakeRay, tmp_path: Path, run: RunDirectory) -> None:
    ray.queues = True
    cluster = Cluster(ray, tmp_path, node_python(tmp_path, SLEEPER), replace(QUICK, lease_s=0.2))
    handle = cluster.executor.start(run.path, 1)
    assert cluster.executor.look(handle) is RunState.ALIVE
    cluster.wait_until(lambda: cluster.executor.look(handle) is RunState.GONE)


def test_token_of_ray_is_sent_and_a_refusal_shows_no_text(ray: FakeRay, tmp_path: Path) -> None:
    ray.token = "secret-token"
    cluster = Cluster(ray, tmp_path)
    assert len(cluster.executor.room()) == 1
    ray.token = "another"
    with pytest.raises(Unavailable) as refused:
        cluster.executor.room()
    assert "401" in refused.value.message
    assert "secret" not in repr(cluster.executor)


def test_outage_of_the_store_at_the_supervisor_ends_no_run(ray: FakeRay, tmp_path: Path, run: RunDirectory) -> None:
    """The clock of the lease does not run while nothing can be read: what was not seen is not what was not there."""
    cluster = Cluster(ray, tmp_path, node_python(tmp_path, SLEEPER), replace(QUICK, lease_s=1.0))
    now = [0.0]
    executor = cluster.executor
    executor.clock = lambda: now[0]
    shipped = cluster.shipped(run)
    start = StartManifest(
        job_id="ftjob-1",
        attempt=1,
        files=(),
        events_bytes=0,
        interrupted=False,
        lease_s=1,
        beat_s=1,
        poll_s=1,
        stop_grace_s=1,
    )
    shipped.create_start(start)
    shipped.put_beat(1, Beat(sequence=5, node="a"))
    assert executor.look("ray:ftjob-1-1") is RunState.ALIVE
    now[0] = 100.0
    assert executor.look("ray:ftjob-1-1") is RunState.ALIVE, "the first look after an outage"
    for tenth in range(1, 12):
        now[0] = 100 + tenth / 10
        state = executor.look("ray:ftjob-1-1")
    assert state is RunState.GONE
    shipped.put_end(1, RunnerEnd(exit_status=0))
    assert cluster.restarted().look("ray:ftjob-1-1") is RunState.GONE
    assert cluster.executor.ending("ray:ftjob-1-1") == Ending(exit_status=0)


def test_run_that_began_on_this_machine_continues_on_a_node_and_back(cluster: Cluster, tmp_path: Path) -> None:
    run = light_run(tmp_path / "ftjob-2", n_steps=150)
    local = LocalExecutor(tmp_path / "trainer-program")
    handle = local.start(run.path, 1)
    cluster.wait_until(lambda: len(list(run.tail())) > 30)
    local.kill(handle)
    assert cluster.executor.look(handle) is RunState.GONE
    cluster.executor.sync(run.path, handle)
    cluster.executor.stop(handle)
    remote = cluster.executor.start(run.path, 2)
    begun = len(list(run.tail()))

    def has_gone_on() -> bool:
        cluster.executor.sync(run.path, remote)
        return len(list(run.tail())) > begun + 10

    cluster.wait_until(has_gone_on)
    cluster.executor.kill(remote)
    assert local.look(remote) is RunState.GONE
    last = local.start(run.path, 3)
    cluster.wait_until(lambda: local.look(last) is RunState.GONE)
    steps = [event.step for event, _ in run.tail() if event.kind == "metrics"]
    assert steps == list(range(1, 151))
    assert not [event for event, _ in run.tail() if event.kind == "message"], "an attempt began again"
