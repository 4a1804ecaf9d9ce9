"""One pass over the jobs that run, have ended, or wait for a node."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from luthier.core.errors import Unavailable
from luthier.core.models import Job
from luthier.core.training.executor_port import Executor
from luthier.core.training.placement import Rooms, Start, WaitingJob
from luthier.core.training.rank_plan import RankPlan
from luthier.service.background.run_control import job_guard, run_following, run_queue, run_starts
from luthier.service.background.run_control.job_lane import JobLane
from luthier.service.background.run_control.run_following import Followed
from luthier.service.background.run_control.run_needs import NeedsOfJobs
from luthier.service.context import Context
from luthier.service.jobs import runs
from luthier.store.queries import jobs

logger = logging.getLogger(__name__)

FOLLOW_THREADS = 8
"""Looks at running jobs at once: of an executor that answers slowly many are waited for together."""
LONG_THREADS = 8
"""Starts and ends of runs at once: they copy data, talk to a cluster, wait for a process."""


@dataclass(slots=True)
class RunControl:
    """Follows running jobs, clears up after ended ones, and starts waiting ones where nodes have room.

    By hand `tick` does everything in the caller's thread. After `start` it only hands work out: a slow start, or a job
    whose node answers slowly, holds up no other job; `changed` is called when another pass has something to do. All of
    it is crash-safe at any point: a job is claimed first, and a running job without a process is found or started
    again.
    """

    context: Context
    executor: Executor
    train_threads: int | None
    save_interval_s: float
    rank_plan: RankPlan
    stopping: Callable[[], bool]
    changed: Callable[[], None]
    _follows: JobLane = field(init=False)
    _long: JobLane = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _to_start: set[str] = field(default_factory=set)
    _starting: dict[str, Start] = field(default_factory=dict)
    _out_of_reach: set[str] = field(default_factory=set)
    _told: set[str] = field(default_factory=set)
    _is_silent: bool = False
    n_followed: int = 0
    """How many runs the last pass has found."""

    def __post_init__(self) -> None:
        guard = partial(job_guard.guarded, self.context)
        self._follows = JobLane("supervisor-follow", FOLLOW_THREADS, guard, self.stopping)
        self._long = JobLane("supervisor-run", LONG_THREADS, guard, self.stopping)

    def start(self) -> None:
        """From now on work is done by threads."""
        self._follows.start()
        self._long.start()

    def stop(self, deadline: float) -> None:
        """Waits for what is under way until the deadline (monotonic); nothing more is begun once the service stops."""
        self._follows.stop(deadline)
        self._long.stop(deadline)

    def in_flight(self) -> frozenset[str]:
        """The ids of the jobs that something is being done for."""
        return self._follows.in_flight() | self._long.in_flight()

    def tick(self) -> None:
        """One pass: what has ended leaves its place first, so that another job gets it in the same pass."""
        busy = self.in_flight()
        with self.context.database.reading() as tx:
            running = jobs.list_occupying(tx)
        self.n_followed = len(running)
        self._forget_all_but({job.id for job in running})
        for job in running:
            if job.id not in busy:
                self._follows.submit(job, self._follow)
        busy = self.in_flight()
        with self.context.database.reading() as tx:
            ended = jobs.list_unreleased(tx)
        for job in ended:
            if job.id not in busy:
                self._long.submit(job, self._release)
        if not self.stopping():
            self._start_what_fits()

    def _follow(self, job: Job) -> None:
        """Looks at one running job."""
        found = run_following.follow(self.context, self.executor, job, self.stopping)
        with self._lock:
            was_out = job.id in self._out_of_reach
            (self._to_start.add if found is Followed.TO_START else self._to_start.discard)(job.id)
            (self._out_of_reach.add if found is Followed.OUT_OF_REACH else self._out_of_reach.discard)(job.id)
        if (found is Followed.OUT_OF_REACH) is not was_out:
            words = "in reach again" if was_out else "out of reach"
            logger.warning("run %s job=%s handle=%s", words, job.id, job.handle)
        if found in {Followed.TO_START, Followed.ENDED}:
            self.changed()

    def _release(self, job: Job) -> None:
        run_starts.release(self.context, self.executor, job)
        self.changed()

    def _start_what_fits(self) -> None:
        """Starts further attempts first, then waiting jobs, as many as fit and as may be started at once."""
        starting = self._starts_under_way()
        with self.context.database.reading() as tx:
            running, ended = jobs.list_occupying(tx), jobs.list_unreleased(tx)
        most = LONG_THREADS - len(starting)
        idle = [job for job in running if job.handle is None and job.id not in starting]
        again = [job for job in idle if job.id in self._to_start]
        if most <= 0 or not (again or run_queue.has_waiting(self.context)):
            return
        needs = NeedsOfJobs(self.context.catalog, self.rank_plan.ranks)
        rooms = self._rooms([*running, *ended], needs)
        if rooms is None:
            return
        for start in starting.values():
            rooms.take(start.needs, start.node)
        for job in idle:
            if job.id not in self._to_start:
                rooms.take(needs.of(job))  # it waits for its next attempt, and keeps its place
        for job in again[:most]:
            most -= self._start_again(job, needs, rooms)
        if most > 0:
            self._start_waiting(Counter(job.resource_id for job in running), needs, rooms, most)

    def _start_again(self, job: Job, needs: NeedsOfJobs, rooms: Rooms) -> bool:
        """Starts the next attempt of a running job, before any that waits; without room a node is held for it."""
        node = rooms.take(needs.of(job))
        if node is None:
            rooms.hold(WaitingJob(job.id, needs.of(job)))
            return False
        self._begin(job, Start(job.id, job.resource_id, node, needs.of(job)), needs)
        return True

    def _start_waiting(self, running: Counter[str], needs: NeedsOfJobs, rooms: Rooms, most: int) -> None:
        """Claims and starts the waiting jobs that are placed, and tells the users of those that no node can hold."""
        placed = run_queue.place_waiting(self.context, needs, running, rooms, self.context.now(), most)
        for start in placed.starts:
            with self.context.database.reading() as tx:
                job = jobs.by_id(tx, start.job_id)
            if job is not None and not self.stopping() and runs.claim(self.context, job):
                self._begin(job, start, needs)
        for one in placed.unholdable:
            if one.job_id not in self._told:
                run_queue.tell_unholdable(self.context, one)
        self._told = {one.job_id for one in placed.unholdable}

    def _begin(self, job: Job, start: Start, needs: NeedsOfJobs) -> None:
        """Has a claimed job's attempt started."""
        self._starting[job.id] = start
        threads = self.train_threads or needs.threads(job.base_model)

        def action(job: Job) -> None:
            write = partial(
                runs.write_directory,
                threads=threads,
                save_interval_s=self.save_interval_s,
                plan=self.rank_plan,
            )
            run_starts.start(self.context, self.executor, job, start.needs, write, self.stopping)
            self.changed()

        self._to_start.discard(job.id)
        self._long.submit(job, action)

    def _starts_under_way(self) -> dict[str, Start]:
        """The starts that are not done, by job. Taken before rows are read and room is asked for: one that ends in
        between then takes its room twice, for one pass, and never not at all.
        """
        busy = self._long.in_flight()
        self._starting = {job_id: start for job_id, start in self._starting.items() if job_id in busy}
        return self._starting

    def _rooms(self, placed: Sequence[Job], needs: NeedsOfJobs) -> Rooms | None:
        """What nodes have left beside the runs that have a handle; None while the executor does not answer."""
        try:
            rooms = self.executor.room({job.handle: needs.of(job) for job in placed if job.handle is not None})
        except Unavailable as error:
            if not self._is_silent:
                logger.warning("executor does not answer %s", error)
            self._is_silent = True
            return None
        self._is_silent = False
        return Rooms(rooms)

    def _forget_all_but(self, running: set[str]) -> None:
        """Drops what is remembered of jobs that no longer run: what is kept does not grow."""
        with self._lock:
            self._to_start &= running
            self._out_of_reach &= running
