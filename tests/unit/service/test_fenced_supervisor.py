"""A supervisor that has lost its lease: whatever it was about to do, nothing of it is done."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from fakes import ScriptedExecutor, train_well
from job_reads import refreshed
from luthier.core.errors import LeaseLost
from luthier.core.models import Job
from luthier.core.states import JobStatus
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.leasing.fenced_ports import FencedBlobs, FencedExecutor
from luthier.service.models.serving import Serving
from luthier.store.fencing.fenced_database import FencedDatabase
from luthier.store.queries.leasing import leases

TTL = timedelta(seconds=60)


def take_over(context: Context, holder: str) -> FencedDatabase:
    """The database of a new holder, who takes the lease from whoever has it."""
    with context.database.writing() as tx:
        held = leases.get(tx, "supervisor")
        lease = leases.take(tx, "supervisor", holder, TTL, gone=None if held is None else held.lease.holder)
    assert lease is not None
    return FencedDatabase(context.database, lease)


def supervisor_of(context: Context, executor: ScriptedExecutor, serving: Serving, holder: str) -> Supervisor:
    fenced = take_over(context, holder)
    own = replace(context, database=fenced, blobs=FencedBlobs(context.blobs, fenced.check))
    return Supervisor(own, FencedExecutor(executor, fenced.check), serving, tick_s=0.01)


def test_job_that_one_supervisor_began_is_ended_by_its_successor_and_left_alone_by_the_first(
    context: Context, executor: ScriptedExecutor, serving: Serving, create: Callable[..., Job]
) -> None:
    executor.trainer = lambda run: None
    executor.alive = {"fake:1"}
    first = supervisor_of(context, executor, serving, "a")
    job = create()
    for _ in range(3):
        first.tick()
    assert executor.started, "its trainer runs"
    second = supervisor_of(context, executor, serving, "b")
    first.tick_runs()
    first.stop()
    assert (executor.stopped, executor.asked_to_stop, executor.killed) == ([], [], [])
    assert refreshed(context, job).status is JobStatus.RUNNING
    executor.alive, executor.trainer = set(), train_well
    for _ in range(6):
        second.tick()
    assert refreshed(context, job).status is JobStatus.SUCCEEDED


def test_supervisor_without_its_lease_starts_no_trainer_for_a_job_that_waits(
    context: Context, executor: ScriptedExecutor, serving: Serving, create: Callable[..., Job]
) -> None:
    first = supervisor_of(context, executor, serving, "a")
    job = create()
    first.tick_files()
    take_over(context, "b")
    with pytest.raises(LeaseLost):
        first.tick_runs()
    assert executor.started == []
    assert refreshed(context, job).status is JobStatus.QUEUED


def test_ports_of_a_lost_lease_change_nothing(context: Context, executor: ScriptedExecutor) -> None:
    fenced = take_over(context, "a")
    blobs, runs = FencedBlobs(context.blobs, fenced.check), FencedExecutor(executor, fenced.check)
    blobs.put("files/kept", [b"kept"])

    def chunks_while_another_takes_over() -> Iterator[bytes]:
        yield b"late"
        take_over(context, "b")

    with pytest.raises(LeaseLost):
        blobs.put("files/kept", chunks_while_another_takes_over())
    run = context.runs_folder / "ftjob-1"
    calls: list[Callable[[], object]] = [
        partial(blobs.delete, "files/kept"),
        partial(blobs.move, "files/kept", "files/moved"),
        partial(blobs.put, "files/new", [b"new"]),
        partial(runs.start, run),
        partial(runs.stop, "fake:1"),
        partial(runs.kill, "fake:1"),
        partial(runs.ask_to_stop, "fake:1"),
        partial(runs.discard, run),
    ]
    for call in calls:
        with pytest.raises(LeaseLost):
            call()
    assert b"".join(context.blobs.open("files/kept")) == b"kept"
    assert [blob.key for blob in context.blobs.stored("files")] == ["files/kept"]
    assert (executor.started, executor.stopped, executor.killed) == ([], [], [])
