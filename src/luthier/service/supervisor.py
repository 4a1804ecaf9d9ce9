"""The loop that moves jobs and deployments: a tick looks at every open one and does what its state asks for."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from luthier.core.errors import Conflict, LuthierError, NoSpace
from luthier.core.models import Job, JobError
from luthier.core.ports import Executor
from luthier.core.states import AttemptEnd, JobStatus, RunState
from luthier.run_directory import Failed, Succeeded
from luthier.service import attempts, deployments, housekeeping, progress, reports, resources, retirement, runs
from luthier.service.context import Context
from luthier.service.imports import Importer
from luthier.service.retirement import Lifetimes
from luthier.service.serving import Serving
from luthier.store import jobs

logger = logging.getLogger(__name__)

HAVE_THE_MACHINE = {JobStatus.RUNNING, JobStatus.PAUSING}
HOUSEKEEPING_INTERVAL = timedelta(minutes=1)
IMPORT_THREADS = 4
"""Fetches at once: a slow server then holds up none but its own callers."""
IMPORT_STOP_S = 2.0


@dataclass(slots=True)
class Supervisor:
    """Moves jobs by `tick` and deployments by `tick_deployments`; `run` does all of it until `stop`, in threads."""

    context: Context
    executor: Executor
    serving: Serving
    tick_s: float
    train_threads: int | None = None
    save_interval_s: float = 60.0
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _woken: threading.Condition = field(default_factory=threading.Condition)
    _threads: list[threading.Thread] = field(default_factory=list)
    _cleaned_at: datetime | None = None
    _importer: Importer = field(init=False)

    def __post_init__(self) -> None:
        self._importer = Importer(self.context, self._stopping.is_set)

    def tick(self) -> None:
        """One pass over the jobs and what is stored. A job that raises is logged, and the others go on."""
        self.tick_imports()
        self.tick_storage()
        self.tick_runs()
        self.tick_files()

    def tick_imports(self) -> None:
        """Fetches what is pending; several threads may do so at once."""
        self._importer.work()

    def tick_storage(self) -> None:
        """Removes what has expired, once a minute at most; the first pass sweeps what an earlier life left behind."""
        now = self.context.now()
        if self._cleaned_at is None:
            housekeeping.sweep_leftovers(self.context)
        elif now - self._cleaned_at < HOUSEKEEPING_INTERVAL:
            return
        self._cleaned_at = now
        housekeeping.remove_expired(self.context)

    def tick_files(self) -> None:
        """One pass over the files that are to be read: half a gigabyte takes longer than a run may wait."""
        with self.context.database.reading() as tx:
            waiting = [job for job in jobs.list_open(tx) if job.status is JobStatus.VALIDATING_FILES]
        for job in waiting:
            self._guarded(job, lambda job: runs.validate_files(self.context, job))
        if not waiting:  # a job's own files are looked at with it, and first
            reports.check_next(self.context)

    def tick_runs(self) -> None:
        """One pass over the jobs that run, that could, or that have left something behind."""
        with self.context.database.reading() as tx:
            open_jobs, ended = jobs.list_open(tx), jobs.list_unreleased(tx)
        for job in ended:
            self._guarded(job, self._release)
        # One run at a time on this machine, a cancelled one that is still stopping included.
        free = not any(job.status in HAVE_THE_MACHINE for job in open_jobs) and all(map(self._is_released, ended))
        for job in open_jobs:
            match job.status:
                case JobStatus.QUEUED if free:
                    free = False
                    if runs.claim(self.context, job):
                        self._guarded(job, self._start)
                case JobStatus.RUNNING | JobStatus.PAUSING:
                    self._guarded(job, self._follow)

    def tick_deployments(self) -> None:
        """One pass over the deployments, and over what deleted resources have left.

        Those whose time is over go, those that wait get their engine.
        """
        resources.purge_deleted(self.context, self.serving)
        retirement.retire(self.context, self.serving, self.lifetimes)
        deployments.create_waiting(self.context, self.serving)

    def start(self) -> None:
        loops = [("runs", self.tick_runs), ("files", self.tick_files), ("deployments", self.tick_deployments)]
        loops += [("storage", self.tick_storage), *[("imports", self.tick_imports)] * IMPORT_THREADS]
        for name, tick in loops:
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
            # A fetch may hang on a slow server; its import begins again at the next start wherever it is ended.
            thread.join(IMPORT_STOP_S if thread.name == "supervisor-imports" else None)
        with self.context.database.reading() as tx:
            running = [job for job in jobs.list_open(tx) if job.handle is not None]
        for job in running:
            self._guarded(job, self._leave)

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
        except NoSpace as error:
            # No fault of the job, and what it has trained is safe: as soon as there is room, a later pass goes on.
            logger.error("disk full job=%s %s", job.id, error)
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
        except NoSpace as error:
            runs.fail(self.context, job, JobError(error.code, error.message))
            return
        attempts.begin(self.context, job)
        handle = self.executor.start(run.path)
        with self.context.database.writing() as tx:
            jobs.set_handle(tx, job.id, handle)
        logger.info("run started job=%s handle=%s", job.id, handle)

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
            case None if job.status is JobStatus.PAUSING:
                runs.ask_to_pause(self.context, job)

    def _recover(self, job: Job) -> None:
        """Goes on with a run that has no process and no verdict: finds, ends, waits, gives up or starts, as it is."""
        run = runs.directory(self.context, job)
        if (found := self.executor.find(run.path)) is not None:
            # Ours died between starting it and writing its handle down; or it was started by hand.
            with self.context.database.writing() as tx:
                jobs.set_handle(tx, job.id, found)
            return
        with self.context.database.reading() as tx:
            fresh = jobs.get(tx, job.resource_id, job.id)
        if fresh is None or fresh.status not in HAVE_THE_MACHINE:
            return
        if fresh.handle is not None:
            end, detail = attempts.described(self.executor.ending(fresh.handle))
            if fresh.status is JobStatus.PAUSING and end in {AttemptEnd.STOPPED, AttemptEnd.VANISHED}:
                end, detail = AttemptEnd.PAUSED, "has left: the job was paused"
            attempts.end(self.context, job, end, detail)
        if fresh.status is JobStatus.PAUSING:
            runs.set_paused(self.context, job)
            return
        tries = attempts.fruitless(self.context, job)
        if len(tries) >= attempts.MAX_FRUITLESS_ENDS:
            runs.fail(self.context, job, attempts.given_up(tries, run.log))
        elif attempts.is_due(tries, self.context.now()):
            self._start(fresh)

    def _leave(self, job: Job) -> None:
        """Stops a run so that the next start of the service goes on with it; a verdict waits to be read then."""
        assert job.handle is not None
        self.executor.stop(job.handle)
        if progress.absorb(self.context, job) is None and job.status in HAVE_THE_MACHINE:
            attempts.end(self.context, job, AttemptEnd.SERVICE_STOPPED, "has left: the service was stopped")
        logger.info("run left for the next start job=%s", job.id)

    def _release(self, job: Job) -> None:
        """Ends what an ended job left: its process if it still runs, and its run directory."""
        run = runs.directory(self.context, job)
        handle = job.handle or self.executor.find(run.path)
        if handle is not None and job.status is JobStatus.CANCELLED:
            self.executor.kill(handle)  # nothing of it is kept, so there is no step worth waiting for
        elif handle is not None:
            self.executor.stop(handle)
        with suppress(Conflict):  # a damaged log: why the job failed, and nothing of it is needed any more
            if not job.is_deleted:
                progress.absorb(self.context, job)
        runs.clear(self.context, job)
        runs.release(self.context, job)
        logger.info("run cleared job=%s", job.id)

    def _is_released(self, job: Job) -> bool:
        return job.handle is None or self.executor.look(job.handle) is RunState.GONE
