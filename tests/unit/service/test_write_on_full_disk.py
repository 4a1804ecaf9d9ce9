"""The service's disk is full: a job that cannot start fails with the reason, a trained one waits for room."""

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import pytest

from fakes import BASE, EchoEngine, ScriptedExecutor, agreeing_parity, train_well
from job_reads import attempts, refreshed
from luthier.core.engine_ports import Address, ServedModel
from luthier.core.errors import NoSpace
from luthier.core.models import Job, Principal
from luthier.core.ports import Blob, BlobStore, StoredBlob
from luthier.core.states import AttemptEnd, JobStatus
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.models import models
from luthier.service.models.serving import Serving


class FullBlobs:
    """A blob store whose disk is full, and behind which that of the run directories is full too."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    def put(self, key: str, chunks: Iterable[bytes]) -> Blob:
        raise NoSpace("disk_full", "The disk of the stored files is full.")

    def join(self, key: str, parts: Sequence[str], on_chunk: Callable[[bytes], object]) -> Blob:
        raise NoSpace("disk_full", "The disk of the stored files is full.")

    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        yield next(self._blobs.open(key))[:100]
        raise OSError(errno.ENOSPC, "No space left on device")

    def delete(self, key: str) -> None:
        self._blobs.delete(key)

    def move(self, key: str, to: str) -> None:
        self._blobs.move(key, to)

    def stored(self, folder: str) -> Iterator[StoredBlob]:
        return self._blobs.stored(folder)


def test_run_directory_that_does_not_fit_fails_the_job_and_is_removed(
    context: Context,
    supervisor: Supervisor,
    executor: ScriptedExecutor,
    serving: Serving,
    create: Callable[..., Job],
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = create()
    supervisor.tick()
    full = Supervisor(replace(context, blobs=FullBlobs(context.blobs)), executor, serving, tick_s=0.01)
    for _ in range(2):
        full.tick()
    ended = refreshed(context, job)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (JobStatus.FAILED, "disk_full")
    assert str(context.runs_folder) not in ended.error.message, "users read it"
    assert f"disk full folder={context.runs_folder}" in caplog.text
    assert executor.started == []
    full.tick()
    assert not (context.runs_folder / job.id / "train.jsonl").exists()


def test_trained_job_waits_for_room_and_then_succeeds(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, serving: Serving, create: Callable[..., Job]
) -> None:
    executor.trainer = train_well
    job = create()
    for _ in range(2):
        supervisor.tick()
    full = Supervisor(replace(context, blobs=FullBlobs(context.blobs)), executor, serving, tick_s=0.01)
    for _ in range(5):
        full.tick()
    assert refreshed(context, job).status is JobStatus.RUNNING
    supervisor.tick()
    assert refreshed(context, job).status is JobStatus.SUCCEEDED
    assert [attempt.end for attempt in attempts(context, job)] == [AttemptEnd.SUCCEEDED]


class FullEngine(EchoEngine):
    """An engine whose files find no room."""

    def ensure(self, model: ServedModel) -> Address:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_engine_that_finds_no_room_is_a_full_disk_and_no_fault_of_ours(context: Context, caller: Principal) -> None:
    engine = FullEngine()
    serving = Serving(context, engine, agreeing_parity)
    with context.database.reading() as tx:
        model = models.resolve(context, tx, caller.resource.id, BASE)
    assert model is not None
    for use in (serving.address, serving.prove):
        with pytest.raises(NoSpace, match="The disk is full"):
            use(model)
    engine.close()
