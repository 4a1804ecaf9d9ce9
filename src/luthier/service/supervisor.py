"""The loop that moves jobs and deployments: a tick looks at every open one and does what its state asks for."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from luthier.core.errors import Conflict, LuthierError
from luthier.core.models import Job, JobError
from luthier.core.ports import Executor
from luthier.core.states import JobStatus, RunState
from luthier.run_directory import Failed, Succeeded
from luthier.service import deployments, progress, runs
from luthier.service.context import Context
from luthier.service.serving import Serving
from luthier.store import jobs

logger = logging.getLogger(__name__)

MAX_FRUITLESS_STARTS = 3
"""Starts in a row that told nothing new, after which a run is given up."""


@dataclass(slots=True)
class Supervisor:
    """Moves jobs by `tick` and deployments by `tick_deployments`; `run` does both until `stop`, each in its thread."""

    context: Context
    executor: Executor
    serving: Serving
    tick_s: float
    train_threads: int | None = None
    save_interval_s: float = 60.0
    _stopping: threading.Event = field(default_factory=threading.Event)
    _woken: threading.Condition = field(default_factory=threading.Condition)
    _threads: list[threading.Thread] = field(default_factory=list)

    def tick(self) -> None:
        """One pass over the jobs. A job that raises is logged, and the others go on."""
        with self.context.database.reading() as tx:
            open_jobs, ended = jobs.list_open(tx), jobs.list_unreleased(tx)
        for job in ended:
            self._guarded(job, self._release)
        # One run at a time on this machine, a cancelled one that is still stopping included.
        free = not any(job.status is JobStatus.RUNNING for job in open_jobs) and all(map(self._is_released, ended))
        for job in open_jobs:
            match job.status:
                case JobStatus.VALIDATING_FILES:
                    self._guarded(job, lambda job: runs.validate_files(self.context, job))
                case JobStatus.QUEUED if free:
                    free = False
                    if runs.claim(self.context, job):
                        self._guarded(job, self._start)
                case JobStatus.RUNNING:
                    self._guarded(job, self._follow)

    def tick_deployments(self) -> None:
        """One pass over the deployments that wait for their engine."""
        deployments.create_waiting(self.context, self.serving)

    def start(self) -> None:
        for name, tick in (("jobs", self.tick), ("deployments", self.tick_deployments)):
            thread = threading.Thread(target=self._run, args=(name, tick), name=f"supervisor-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def wake(self) -> None:
        """Has the next pass begin now: something was asked for."""
        with self._woken:
            self._woken.notify_all()

    def stop(self) -> None:
        """Ends the loops after their pass, and running trainers after their step: a later start goes on from there."""
        self._stopping.set()
        self.wake()
        for thread in self._threads:
            thread.join()
        with self.context.database.reading() as tx:
            running = [job for job in jobs.list_open(tx) if job.handle is not None]
        for job in running:
            assert job.handle is not None
            self.executor.stop(job.handle)
            logger.info("run left for the next start job=%s", job.id)

    def _run(self, name: str, tick: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            try:
                tick()
            except Exception:
                logger.exception("tick failed loop=%s", name)
            with self._woken:
                self._woken.wait(self.tick_s)

    def _guarded(self, job: Job, act: Callable[[Job], None]) -> None:
        try:
            act(job)
        except LuthierError as error:
            runs.fail(self.context, job, JobError(error.code, error.message, error.param))
        except Exception:
            logger.exception("tick failed job=%s", job.id)

    def _start(self, job: Job) -> None:
        try:
            run = runs.write_directory(self.context, job, self.train_threads, self.save_interval_s)
        except FileNotFoundError as error:
            text = f"A file of this job was deleted while it waited ({error}). Upload it again and make a new job."
            runs.fail(self.context, job, JobError("file_not_found", text))
            return
        handle = self.executor.start(run.path)
        with self.context.database.writing() as tx:
            jobs.set_handle(tx, job.id, handle, job.starts + 1)
        logger.info("run started job=%s handle=%s start=%d", job.id, handle, job.starts + 1)

    def _follow(self, job: Job) -> None:
        # Look first, then read: what a run told before it was gone is all there when we read.
        state = RunState.GONE if job.handle is None else self.executor.look(job.handle)
        match progress.absorb(self.context, job):
            case Succeeded() as verdict:
                progress.finish(self.context, job, verdict)
            case Failed() as verdict:
                runs.fail(self.context, job, JobError(verdict.code, verdict.message, verdict.param))
            case None if state is RunState.GONE:
                self._recover(job)

    def _recover(self, job: Job) -> None:
        with self.context.database.reading() as tx:
            fresh = jobs.get(tx, job.resource_id, job.id)
        if fresh is None or fresh.status is not JobStatus.RUNNING:
            return
        if fresh.starts >= MAX_FRUITLESS_STARTS:
            log = runs.directory(self.context, job).log
            text = f"The trainer ended {fresh.starts} times without a word. Its log says why: {log}"
            runs.fail(self.context, job, JobError("trainer_died", text))
            return
        self._start(fresh)

    def _release(self, job: Job) -> None:
        """Ends what an ended job left: its process if it still runs, and its run directory."""
        assert job.handle is not None
        self.executor.stop(job.handle)
        with suppress(Conflict):  # a damaged log: why the job failed, and nothing of it is needed any more
            progress.absorb(self.context, job)
        runs.clear(self.context, job)
        with self.context.database.writing() as tx:
            jobs.set_handle(tx, job.id, None, job.starts)
        logger.info("run cleared job=%s", job.id)

    def _is_released(self, job: Job) -> bool:
        return job.handle is None or self.executor.look(job.handle) is RunState.GONE
