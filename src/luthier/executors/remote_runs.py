"""Runs on a cluster's nodes: started through a scheduler, followed through the object store, judged by heartbeats.

The scheduler's word alone ends no run (docs/ray.md): it may call a trainer failed that still runs.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from luthier.core.errors import Unavailable
from luthier.core.states import RunState
from luthier.core.training import node_rooms
from luthier.core.training.executor_port import NONE_RUNNING, ONE_CPU, Ending, NodeRoom, RunNeeds
from luthier.executors.followed_run import FollowedRun, Terms
from luthier.executors.launcher import Launcher, Word
from luthier.executors.mirror import Mirror
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.shipped_run import FOLDER, Request, RunStore, ShippedRun, StartManifest

logger = logging.getLogger(__name__)

START_LEASES = 5
"""After so many leases without a first beat a start is given up: a node that sets up its environment takes minutes."""


@dataclass
class RemoteRuns:
    """Implements the port Executor. A handle is `<launcher>:<job>-<attempt>`, behind the colon the launcher's id.

    The run directory is a mirror here. `key_prefix` is what the store's keys have before `runs/` on the nodes, whose
    URL names the whole store. Safe from several threads, of which one at a time may act on a job.
    """

    store: RunStore
    launcher: Launcher
    key_prefix: str = ""
    terms: Terms = field(default_factory=Terms)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    wrong_words: int = 0
    """How often the scheduler called a run ended whose heart still beat: once per attempt."""
    _followed: dict[str, FollowedRun] = field(default_factory=dict)
    _mirrors: dict[Path, Mirror] = field(default_factory=dict)

    outlives_service = True
    """Nodes work on while the service restarts."""

    def room(self, running: Mapping[str, RunNeeds] = NONE_RUNNING) -> Sequence[NodeRoom]:
        """What is free on each node, less the runs that the scheduler's figures may not show yet: on every node that
        may have got them, so that nothing is queued there.
        """
        rooms = list(self.launcher.nodes())
        for followed in self._unseen():
            needs = followed.needs
            fitting = [index for index, room in enumerate(rooms) if node_rooms.fits(room, needs)]
            for index in fitting[:1]:
                rooms[index] = node_rooms.without(rooms[index], needs)
        return rooms

    def start(self, run: Path, attempt: int = 1, needs: RunNeeds = ONE_CPU) -> str:
        """Opens the attempt in the store and submits its runner. Raises Unavailable, NoSpace, OSError and Conflict."""
        self._fix_threads(RunDirectory(run), needs)
        start = StartManifest(
            job_id=run.name,
            attempt=attempt,
            files=(),
            events_bytes=0,
            interrupted=False,
            lease_s=self.terms.lease_s,
            beat_s=self.terms.beat_s,
            poll_s=self.terms.poll_s,
            stop_grace_s=self.terms.stop_grace_s,
        )
        self._mirror(run).open_attempt(start)
        id = f"{run.name}-{attempt}"
        prefix = f"{self.key_prefix}/" if self.key_prefix else ""
        self.launcher.submit(id, f"{prefix}{FOLDER}/{run.name}", attempt, needs)
        handle = f"{self.launcher.name}:{id}"
        self._followed[handle] = self._new_lease(needs)
        return handle

    def find(self, run: Path, attempt: int = 1) -> str | None:
        """The handle of an attempt that was submitted and is not lost. Raises Unavailable."""
        handle = f"{self.launcher.name}:{run.name}-{attempt}"
        if self._shipped(run.name).start(attempt) is None:
            return None
        is_unknown = self.launcher.word(self._id(handle)) is Word.UNKNOWN and handle not in self._followed
        if is_unknown and self._shipped(run.name).beat(attempt) is None:
            return None  # never submitted; with a beat, to a scheduler that has lost its memory
        return None if self.look(handle) is RunState.GONE else handle

    def sync(self, run: Path, handle: str) -> None:
        """Brings the mirror up to what the attempt has shipped; passes a pause request on. Raises Unavailable, NoSpace,
        and Conflict for damaged bytes.
        """
        if not self._is_ours(handle):
            return
        attempt = self._parts(handle)[1]
        mirror = self._mirror(run)
        mirror.follow(attempt)
        if RunDirectory(run).pause.exists():
            self._ask(handle, Request.PAUSE)
        followed = self._followed.get(handle)
        if followed is not None and followed.end is not None and not followed.mirror_closed:
            mirror.close_attempt(attempt, in_order=followed.end.exit_status == 0)
            followed.mirror_closed = True

    def look(self, handle: str) -> RunState:
        """ALIVE while beats come; GONE by the runner's own last object, by an exit code, or if the lease is over and
        the scheduler answers. UNKNOWN if store or scheduler does not answer when it is needed.
        """
        if not self._is_ours(handle):
            return RunState.GONE
        job, attempt = self._parts(handle)
        try:
            followed = self._followed.get(handle)
            if followed is None:
                if self._shipped(job).start(attempt) is None:
                    return RunState.GONE  # it was discarded
                followed = self._followed[handle] = self._new_lease(ONE_CPU)
            if followed.state is RunState.GONE or 0 <= self.clock() - followed.read_at < self.terms.poll_s:
                return followed.state
            self._read(self._shipped(job), attempt, followed)
        except Unavailable:
            return RunState.UNKNOWN  # `read_at` stays: the lease is counted anew when the store answers again
        followed.state = RunState.GONE if followed.end is not None else self._judge(handle, followed)
        return followed.state

    def ending(self, handle: str) -> Ending:
        """How the trainer ended by its runner's last object; an empty Ending without one."""
        followed = self._followed.get(handle)
        if followed is None or followed.end is None:
            return Ending()
        end = followed.end
        return Ending(exit_status=end.exit_status, signal=end.signal, out_of_memory=end.out_of_memory)

    def ask_to_stop(self, handle: str) -> None:
        """Asks through the store and through the scheduler. Raises Unavailable."""
        if self.look(handle) is not RunState.GONE:
            self._ask(handle, Request.STOP)
            self.launcher.stop(self._id(handle))

    def stop(self, handle: str) -> None:
        """As `ask_to_stop`, and waits a moment. Raises Unavailable if the run has not exited by then: call again."""
        self._end(handle, Request.STOP)

    def kill(self, handle: str) -> None:
        """As `stop`, without a last step: the node leaves nothing."""
        self._end(handle, Request.END)

    def discard(self, run: Path) -> None:
        """Deletes the job's objects; a node that still works on it finds its request gone, and leaves."""
        self._shipped(run.name).delete()
        self._mirrors.pop(run, None)
        for handle in [handle for handle in list(self._followed) if self._parts(handle)[0] == run.name]:
            del self._followed[handle]

    def _end(self, handle: str, request: Request) -> None:
        """Asks for the end and waits `patience_s` for it; only the first time, as other runs wait for this thread."""
        if self.look(handle) is RunState.GONE:
            return
        wait_s = self.terms.patience_s if self._ask(handle, request) else 0.0
        self.launcher.stop(self._id(handle))
        deadline = self.clock() + wait_s
        while self.look(handle) is not RunState.GONE:
            if self.clock() >= deadline:
                raise Unavailable("run_not_ended", f"{self._id(handle)} was asked to exit and has not yet.")
            self.sleep(0.1)

    def _judge(self, handle: str, followed: FollowedRun) -> RunState:
        """The state of a run whose runner has not said its last word."""
        now = self.clock()
        silent_s = now - followed.alive_at
        is_starting = followed.sequence is None
        limit_s = self.terms.lease_s * (START_LEASES if is_starting else 1)
        if not is_starting and silent_s < 1.5 * self.terms.beat_s:
            self._count_wrong_word(handle, followed)
            return RunState.ALIVE
        try:
            word = self.launcher.word(self._id(handle))
        except Unavailable:
            return RunState.UNKNOWN if silent_s > limit_s else RunState.ALIVE
        match word:
            case Word.EXITED:
                return self._gone(handle, "its process has exited")
            case Word.LOST | Word.UNKNOWN if silent_s > self.terms.lease_s:
                return self._gone(handle, "the lease is over")
            case _ if silent_s > limit_s:
                return self._gone(handle, "the lease is over, and the scheduler does not know")
        return RunState.ALIVE

    def _count_wrong_word(self, handle: str, followed: FollowedRun) -> None:
        """Asks the scheduler about a run that beats, as often as beats come, to count what it says wrongly."""
        if followed.is_wrong_word_counted or followed.asked is not Request.RUN:
            return
        if self.clock() - followed.alive_at > self.terms.poll_s:
            return  # once a beat is enough
        try:
            word = self.launcher.word(self._id(handle))
        except Unavailable:
            return
        if word in {Word.LOST, Word.UNKNOWN}:
            followed.is_wrong_word_counted = True
            self.wrong_words += 1
            logger.warning("scheduler is wrong handle=%s word=%s: its heart beats", handle, word)

    def _gone(self, handle: str, why: str) -> RunState:
        logger.info("run gone handle=%s: %s", handle, why)
        return RunState.GONE

    def _read(self, shipped: ShippedRun, attempt: int, followed: FollowedRun) -> None:
        """Reads beat and end. A new number renews the lease; so does the store's first answer after an outage."""
        beat, end = shipped.beat(attempt), shipped.end(attempt)
        now = self.clock()
        if beat is not None and beat.sequence != followed.sequence:
            followed.sequence, followed.alive_at = beat.sequence, now
            followed.first_beat_at = followed.first_beat_at or now
        elif now - followed.read_at > max(self.terms.lease_s / 2, 2 * self.terms.poll_s):
            followed.alive_at = now
        followed.read_at = now
        followed.end = end

    def _ask(self, handle: str, request: Request) -> bool:
        """Puts a request, once, and none that asks for less than one before; returns whether it was put now."""
        job, attempt = self._parts(handle)
        followed = self._followed.setdefault(handle, self._new_lease(ONE_CPU))
        order = list(Request)
        if order.index(request) <= order.index(followed.asked):
            return False
        self._shipped(job).put_request(attempt, request)
        followed.asked = request
        return True

    def _unseen(self) -> list[FollowedRun]:
        """Runs that were submitted and may not be in the scheduler's figures yet."""
        now = self.clock()
        return [
            followed
            for followed in list(self._followed.values())
            if followed.state is not RunState.GONE
            and (followed.first_beat_at is None or now - followed.first_beat_at < self.terms.unseen_s)
        ]

    def _new_lease(self, needs: RunNeeds) -> FollowedRun:
        now = self.clock()
        return FollowedRun(needs=needs, alive_at=now, read_at=now - self.terms.poll_s)

    def _fix_threads(self, run: RunDirectory, needs: RunNeeds) -> None:
        """Gives the run its number of threads, if the spec leaves it to the machine: its bytes depend on it, and the
        next attempt may get a node of another size. Its ranks share the CPUs.
        """
        if run.spec.exists() and (spec := run.read_spec()).threads is None:
            run.write_spec(spec.model_copy(update={"threads": max(1, int(needs.cpus / spec.ranks))}))

    def _mirror(self, run: Path) -> Mirror:
        return self._mirrors.setdefault(run, Mirror(RunDirectory(run), self._shipped(run.name)))

    def _shipped(self, job: str) -> ShippedRun:
        return ShippedRun(self.store, f"{FOLDER}/{job}")

    def _is_ours(self, handle: str) -> bool:
        """Whether it is a handle of this launcher's: a job may have one of an executor that was set before."""
        return handle.startswith(f"{self.launcher.name}:")

    def _id(self, handle: str) -> str:
        return handle.partition(":")[2]

    def _parts(self, handle: str) -> tuple[str, int]:
        """Job and attempt of a handle."""
        job, _, attempt = self._id(handle).rpartition("-")
        return job, int(attempt)
