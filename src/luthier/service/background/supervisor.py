"""The supervisor: a tick looks at every open job and deployment and does what its state requires."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from luthier.core.errors import NoSpace, Unavailable
from luthier.core.models import Job
from luthier.core.states import JobStatus
from luthier.core.training.executor_port import Executor
from luthier.core.training.rank_plan import ONE_RANK, RankPlan
from luthier.service.background import resource_purge
from luthier.service.background.expiry import Housekeeper
from luthier.service.background.run_control import job_guard, run_starts
from luthier.service.background.run_control.run_control import RunControl
from luthier.service.context import Context
from luthier.service.files import data_reports
from luthier.service.files.url_imports import Importer
from luthier.service.jobs import checkpoint_copies, runs
from luthier.service.models import deployment_expiry, deployments
from luthier.service.models.deployment_expiry import Lifetimes
from luthier.service.models.serving_port import ServedModels
from luthier.service.shutdown import Stopped
from luthier.store.queries import jobs

logger = logging.getLogger(__name__)

RUNS = "runs"
LOOPS = (RUNS, "files", "deployments", "storage", "imports")
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
    serving: ServedModels
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
    _wakes: Counter[str] = field(default_factory=Counter)
    _passes: Counter[str] = field(default_factory=Counter)
    _importer: Importer = field(init=False)
    _housekeeper: Housekeeper = field(init=False)
    _control: RunControl = field(init=False)

    def __post_init__(self) -> None:
        self._control = RunControl(
            self.context,
            self.executor,
            self.train_threads,
            self.save_interval_s,
            self.rank_plan,
            self._stopping.is_set,
            partial(self._wake, RUNS),
        )
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
                check = partial(runs.validate_files, self.context, stopping=self._yield_or_stop)
                job_guard.guarded(self.context, job, check)
                self._wake(RUNS)
            if not waiting:  # the files of a job are checked with it, and first
                data_reports.check_next(self.context, self._yield_or_stop)

    def tick_runs(self) -> None:
        """Follows running jobs, clears up after ended ones, and starts waiting ones where nodes have room."""
        self._control.tick()

    def tick_deployments(self) -> None:
        """One pass over deleted resources, copies without an owner, and expired and new deployments."""
        resource_purge.purge_deleted(self.context, self.serving)
        checkpoint_copies.delete_orphaned(self.context)
        deployment_expiry.delete_expired(self.context, self.serving, self.lifetimes)
        deployments.create_waiting(self.context, self.serving, self._stopping.is_set)

    def start(self) -> None:
        """Starts a daemon thread for each loop, several for imports."""
        self._control.start()
        ticks = (self.tick_runs, self.tick_files, self.tick_deployments, self.tick_storage, self.tick_imports)
        loops = list(zip(LOOPS, ticks, strict=True))
        for name, tick in loops + loops[-1:] * (IMPORT_THREADS - 1):
            thread = threading.Thread(target=self._run, args=(name, tick), name=f"supervisor-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def passes(self) -> Mapping[str, int]:
        """How many passes of each loop have ended since the start."""
        return {name: self._passes[name] for name in LOOPS}

    def followed_runs(self) -> int:
        """How many runs the last pass has followed."""
        return self._control.n_followed

    def wake(self) -> None:
        """Starts the next pass of every loop now, after a request, or after the pass that is under way."""
        self._wake(*LOOPS)

    def _wake(self, *names: str) -> None:
        """The same for the loops of these names."""
        with self._woken:
            self._wakes.update(names)
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
            job_guard.guarded(self.context, job, partial(run_starts.ask_to_exit, self.executor))
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._control.stop(deadline)
        busy = self._control.in_flight()  # of these an attempt may just begin or end: the next start finds out
        for job in self._with_trainers():
            if job.id not in busy:
                job_guard.guarded(self.context, job, partial(run_starts.stop, self.context, self.executor))

    def _with_trainers(self) -> list[Job]:
        """The open jobs that have a trainer's handle, and none if those continue without the service."""
        if self.executor.outlives_service:
            return []
        with self.context.database.reading() as tx:
            return [job for job in jobs.list_occupying(tx) if job.handle is not None]

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
            seen = self._wakes[name]
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
                self._passes[name] += 1
                self._woken.wait_for(partial(self._is_woken, name, seen), self.tick_s)  # at once after one in the pass

    def _is_woken(self, name: str, seen: int) -> bool:
        """Whether a loop was woken since it had been as often as `seen`."""
        return self._wakes[name] != seen
