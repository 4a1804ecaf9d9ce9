"""The supervisor: a tick looks at every open job and deployment and does what its state requires."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from luthier.core.errors import Conflict, LuthierError, NoSpace, Unavailable
from luthier.core.models import Job, JobError
from luthier.core.states import AttemptEnd, JobStatus, RunState
from luthier.core.training.executor_port import Executor
from luthier.core.training.rank_plan import ONE_RANK, RankPlan
from luthier.run_directory.run_events import Failed, Succeeded
from luthier.service.background import resource_purge
from luthier.service.background.expiry import Housekeeper
from luthier.service.context import Context
from luthier.service.files import data_reports
from luthier.service.files.url_imports import Importer
from luthier.service.jobs import attempts, checkpoint_copies, progress, runs
from luthier.service.models import deployment_expiry, deployments
from luthier.service.models.deployment_expiry import Lifetimes
from luthier.service.models.serving import Serving
from luthier.service.shutdown import Stopped
from luthier.store.queries import jobs

logger = logging.getLogger(__name__)

OCCUPYING = {JobStatus.RUNNING, JobStatus.PAUSING}
IMPORT_THREADS = 4
"""Concurrent fetches: a slow server then delays only its own callers."""
YIELD_S = 0.2
"""How long the check of a file pauses between two chunks for requests that wait to write: it would take half of the
interpreter's time from a burst of them."""
STOP_S = 2.0
"""What all loops together get to finish their pass. Each is crash-safe at any point: what is unfinished ends with the
process, and the next start continues it."""


@dataclass(slots=True)
class Supervisor:
    """Moves jobs by `tick` and deployments by `tick_deployments`; `start` runs all loops in threads until `stop`.

    `tick_s` is the seconds between two passes of a loop; `train_threads` a trainer's threads, None for one per core.
    """

    context: Context
    executor: Executor
    serving: Serving
    tick_s: float
    train_threads: int | None = None
    save_interval_s: float = 60.0
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    keep_lost: timedelta = timedelta(days=30)
    rank_plan: RankPlan = ONE_RANK
    _stopping: threading.Event = field(default_factory=threading.Event)
    _woken: threading.Condition = field(default_factory=threading.Condition)
    _threads: list[threading.Thread] = field(default_factory=list)
    _stop_thread: threading.Thread | None = None
    _importer: Importer = field(init=False)
    _housekeeper: Housekeeper = field(init=False)

    def __post_init__(self) -> None:
        self._housekeeper = Housekeeper(self.context, self.keep_lost)
        self._importer = Importer(self.context, self._stopping.is_set)

    def tick(self) -> None:
        """One pass over jobs and storage in the caller's thread. An error in one job does not stop the others."""
        self.tick_imports()
        self.tick_storage()
        self.tick_runs()
        self.tick_files()

    def tick_imports(self) -> None:
        """Fetches pending imports; several threads may do so at once."""
        self._importer.work()

    def tick_storage(self) -> None:
        """Removes what has expired and sweeps orphaned blobs, as often as is due."""
        self._housekeeper.work()

    def tick_files(self) -> None:
        """Checks the files of jobs to be validated; if there is none, those of the oldest upload without a report.

        Apart from the runs: half a gigabyte takes longer than a run may wait.
        """
        with self.context.database.reading() as tx:
            waiting = jobs.list_in(tx, [JobStatus.VALIDATING_FILES])
        with suppress(Stopped):
            for job in waiting:
                if self._stopping.is_set():
                    return
                self._guarded(job, lambda job: runs.validate_files(self.context, job, self._yield_or_stop))
            if not waiting:  # the files of a job are checked with it, and first
                data_reports.check_next(self.context, self._yield_or_stop)

    def tick_runs(self) -> None:
        """Clears up after ended jobs, follows running ones, and starts the oldest queued one if the machine is free."""
        with self.context.database.reading() as tx:
            running, ended = jobs.list_in(tx, OCCUPYING), jobs.list_unreleased(tx)
            queued = jobs.first_in(tx, JobStatus.QUEUED)
        for job in ended:
            if self._stopping.is_set():
                return
            self._guarded(job, self._release)
        for job in running:
            self._guarded(job, self._follow)
        # One run at a time on this machine, including a cancelled one that is still stopping.
        is_free = not running and all(map(self._is_released, ended)) and not self._stopping.is_set()
        if queued is not None and is_free and runs.claim(self.context, queued):
            self._guarded(queued, self._start)

    def tick_deployments(self) -> None:
        """One pass over deleted resources, copies without an owner, and expired and new deployments."""
        resource_purge.purge_deleted(self.context, self.serving)
        checkpoint_copies.delete_orphaned(self.context)
        deployment_expiry.delete_expired(self.context, self.serving, self.lifetimes)
        deployments.create_waiting(self.context, self.serving, self._stopping.is_set)

    def start(self) -> None:
        """Starts a daemon thread for each loop, several for imports."""
        loops = [("runs", self.tick_runs), ("files", self.tick_files), ("deployments", self.tick_deployments)]
        loops += [("storage", self.tick_storage), *[("imports", self.tick_imports)] * IMPORT_THREADS]
        for name, tick in loops:
            thread = threading.Thread(target=self._run, args=(name, tick), name=f"supervisor-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def wake(self) -> None:
        """Starts the next pass now, after a request."""
        with self._woken:
            self._woken.notify_all()

    def begin_stop(self) -> None:
        """Asks the loops to start nothing more, cancels long work, and asks running trainers to exit.

        Returns at once; `stop` waits for all of it.
        """
        self._stopping.set()
        self.wake()
        if self._stop_thread is None:
            self._stop_thread = threading.Thread(target=self._finish_stop, name="supervisor-stop", daemon=True)
            self._stop_thread.start()

    def stop(self) -> None:
        """Ends the loops within STOP_S, and running trainers after their step: a later start resumes them."""
        self.begin_stop()
        assert self._stop_thread is not None
        self._stop_thread.join()

    def _finish_stop(self) -> None:
        """Asks trainers to exit, waits for the loops until STOP_S, then for each trainer, whose attempt it ends."""
        deadline = time.monotonic() + STOP_S
        for job in self._with_trainers():  # a step takes a while: it ends while the loops finish
            self._guarded(job, self._ask_to_exit)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for job in self._with_trainers():
            self._guarded(job, self._stop_run)

    def _with_trainers(self) -> list[Job]:
        """The open jobs that have a trainer's handle, and none if those continue without the service."""
        if self.executor.outlives_service:
            return []
        with self.context.database.reading() as tx:
            return [job for job in jobs.list_open(tx) if job.handle is not None]

    def _yield_or_stop(self) -> bool:
        """Waits up to YIELD_S while requests wait to write to the database; returns whether the service stops."""
        deadline = time.monotonic() + YIELD_S
        while self.context.database.waiting_writers and time.monotonic() < deadline:
            if self._stopping.wait(0.01):
                break
        return self._stopping.is_set()

    def _run(self, name: str, tick: Callable[[], None]) -> None:
        """A thread's loop: a pass, then a wait for `tick_s` or `wake`. What a pass raises is logged."""
        while not self._stopping.is_set():
            try:
                tick()
            except NoSpace as error:
                logger.error("disk full loop=%s %s", name, error)
            except Unavailable as error:  # as when the database's server is away
                logger.error("tick delayed loop=%s %s", name, error)
            except Exception:
                if not self._stopping.is_set():  # else a dependency may already be closed
                    logger.exception("tick failed loop=%s", name)
            with self._woken:
                self._woken.wait(self.tick_s)

    def _guarded(self, job: Job, action: Callable[[Job], None]) -> None:
        """Does the action for one job. A LuthierError fails the job, except a full disk and a busy database, which are
        logged like any other exception; only Stopped is raised."""
        try:
            action(job)
        except Stopped:
            raise
        except (NoSpace, Unavailable) as error:
            # Not an error of the job, and its progress is saved: a later pass continues once there is room.
            logger.error("job delayed id=%s %s", job.id, error)
        except LuthierError as error:
            runs.fail(self.context, job, JobError(error.code, error.message, error.param))
        except Exception:
            logger.exception("tick failed job=%s", job.id)

    def _start(self, job: Job) -> None:
        """Writes the run directory and starts an attempt; fails the job for a deleted file or a full disk."""
        try:
            run = runs.write_directory(self.context, job, self.train_threads, self.save_interval_s, self.rank_plan)
        except FileNotFoundError as error:
            logger.info("run not started job=%s %s", job.id, error)
            text = "A file of this job was deleted while it waited. Upload it again and create a new job."
            runs.fail(self.context, job, JobError("file_not_found", text))
            return
        except NoSpace as error:
            runs.fail(self.context, job, JobError(error.code, error.message))
            return
        if self._stopping.is_set():
            return  # the next start continues it: a running job without a process
        number = attempts.start_attempt(self.context, job)
        handle = self.executor.start(run.path, number)
        with self.context.database.writing() as tx:
            jobs.set_handle(tx, job.id, handle)
        logger.info("run started job=%s handle=%s", job.id, handle)

    def _follow(self, job: Job) -> None:
        """Absorbs a running job's new events; ends it by its verdict, recovers it, or asks its trainer to pause."""
        # The state first, then the events: all that a run wrote before it exited is then read.
        state = RunState.GONE
        if job.handle is not None:
            state = self.executor.look(job.handle)
            self.executor.sync(runs.directory(self.context, job).path, job.handle)
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
        """Recovers a run without process and verdict: finds its process, or waits, fails the job or restarts it."""
        if self._stopping.is_set():
            return  # it exited because it was asked to: `_stop_run` records that
        run = runs.directory(self.context, job)
        if (handle := self.executor.find(run.path, attempts.current_number(self.context, job))) is not None:
            # The service died between starting it and storing its handle; or it was started by hand.
            with self.context.database.writing() as tx:
                jobs.set_handle(tx, job.id, handle)
            return
        with self.context.database.reading() as tx:
            fresh = jobs.get(tx, job.resource_id, job.id)
        if fresh is None or fresh.status not in OCCUPYING:
            return
        if fresh.handle is not None:
            process = self.executor.ending(fresh.handle)
            end = attempts.end_without_verdict(process)
            if fresh.status is JobStatus.PAUSING and end in {AttemptEnd.STOPPED, AttemptEnd.VANISHED}:
                end = AttemptEnd.PAUSED
            attempts.end_attempt(self.context, job, end, process)
        if fresh.status is JobStatus.PAUSING:
            runs.set_paused(self.context, job)
            return
        failed = attempts.without_progress(self.context, job)
        if attempts.are_too_many(failed):
            logger.error("job given up id=%s attempts=%d log=%s", job.id, len(failed), run.log)
            runs.fail(self.context, job, attempts.give_up_error(failed))
        elif attempts.is_retry_due(failed, self.context.now()):
            self._start(fresh)

    def _ask_to_exit(self, job: Job) -> None:
        """Asks the job's trainer to exit after its step; does not wait for it."""
        assert job.handle is not None
        self.executor.ask_to_stop(job.handle)

    def _stop_run(self, job: Job) -> None:
        """Stops a trainer after its step and ends its attempt, so that the next start of the service resumes the run.

        A verdict that it left is read at that start.
        """
        assert job.handle is not None
        self.executor.stop(job.handle)
        if progress.absorb(self.context, job) is None and job.status in OCCUPYING:
            attempts.end_attempt(self.context, job, AttemptEnd.SERVICE_STOPPED)
        logger.info("run stopped for the next start job=%s", job.id)

    def _release(self, job: Job) -> None:
        """Ends the process of an ended job, absorbs its last events, removes its run directory, and records that."""
        run = runs.directory(self.context, job)
        handle = job.handle or self.executor.find(run.path, attempts.current_number(self.context, job))
        if handle is not None and job.status is JobStatus.CANCELLED:
            self.executor.kill(handle)  # nothing of it is kept: no step is worth waiting for
        elif handle is not None:
            self.executor.stop(handle)
        with suppress(Conflict):  # a damaged log is why the job failed, and nothing of it is needed
            if handle is not None:
                self.executor.sync(run.path, handle)
            if not job.is_deleted:
                progress.absorb(self.context, job)
        runs.remove_files(self.context, job)
        self.executor.discard(run.path)
        runs.set_released(self.context, job)
        logger.info("run removed job=%s", job.id)

    def _is_released(self, job: Job) -> bool:
        """Whether an ended job has no process any more."""
        return job.handle is None or self.executor.look(job.handle) is RunState.GONE
