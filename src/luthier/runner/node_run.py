"""One attempt on a node, from its start manifest to its end object: beats, requests, the trainer, what it writes."""

import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from luthier.core.errors import Conflict, LuthierError, Unavailable
from luthier.core.states import RunState
from luthier.executors.local import LocalExecutor
from luthier.run_directory.run_directory import EXIT_DAMAGED, EXIT_LOCKED, RunDirectory
from luthier.run_directory.run_events import Failed
from luthier.run_directory.shipped_run import Beat, Request, RunnerEnd, ShippedRun, StartManifest
from luthier.runner import run_inputs
from luthier.runner.shipper import NotOurs, Shipper

logger = logging.getLogger(__name__)

SHIP_S = 0.2
"""The pause between two looks for new events."""
LOOK_S = 0.05
"""The pause between two looks at the trainer."""
RETRY_S = 1.0
"""The pause after a store that could not be reached."""
LATEST_REQUEST_S = 2.0
"""How long SIGTERM waits for the supervisor's request: it tells whether a last step is wanted."""
LOG_TAIL_BYTES = 256 * 1024
EXIT_CUT_OFF = 76
"""The node could not ship for half of its lease."""


@dataclass
class NodeRun:
    """Runs attempts of one job in a folder of this node's disk; `run` from the main thread, `terminate` from a signal.

    `models_folder` None: the base model is where the service has it. `python` None: the trainer's is our own.
    """

    shipped: ShippedRun
    attempt: int
    folder: Path
    models_folder: Path | None
    python: Path | None = None
    clock: Callable[[], float] = time.monotonic
    _reached_at: float = field(init=False, default=0.0)
    _failing_since: float | None = field(init=False, default=None)
    _over: threading.Event = field(init=False, default_factory=threading.Event)
    _lost: threading.Event = field(init=False, default_factory=threading.Event)
    _is_terminated: bool = field(init=False, default=False)
    """Set by a signal handler, which must not wait for the lock of an event."""
    _hurry: threading.Event = field(init=False, default_factory=threading.Event)
    """Set to have the request read now."""
    _asked_again: threading.Event = field(init=False, default_factory=threading.Event)
    """Set once the request was read after SIGTERM."""
    _requested: Request = field(init=False, default=Request.RUN)

    def terminate(self) -> None:
        """Asks for the end after the present step, as SIGTERM does to a trainer. Safe in a signal handler."""
        self._is_terminated = True

    def run(self) -> int:
        """Runs the attempt and returns the exit code: the trainer's own, 128 + n for its signal n.

        EXIT_LOCKED: the attempt is not, or no longer, ours: then nothing was or will be read of it. EXIT_CUT_OFF: the
        store could not be reached. EXIT_DAMAGED: stored bytes are not those of the manifest.
        """
        self._reached_at = self.clock()
        try:
            start = self.shipped.start(self.attempt)
            is_ours = start is not None and self.shipped.request(self.attempt) is not Request.END
            if start is None or not is_ours or self.shipped.chunk_offsets(self.attempt):
                return EXIT_LOCKED
        except Unavailable as error:
            logger.error("attempt not started job=%s attempt=%d %s", self.shipped.key, self.attempt, error)
            return EXIT_CUT_OFF
        beats = threading.Thread(target=self._beat, args=(start,), name="beats", daemon=True)
        beats.start()
        try:
            return self._run(start)
        finally:
            self._over.set()
            self._hurry.set()
            beats.join(start.beat_s)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, start: StartManifest) -> int:
        """Builds the directory, then the trainer's whole life; returns the exit code."""
        run = RunDirectory(self.folder / "run")
        if (code := self._build(run, start)) is not None:
            return code
        shipper = Shipper(run, self.shipped, start, self.folder / "staging")
        shipping_over = threading.Event()
        ships = threading.Thread(target=self._ship, args=(shipper, start, shipping_over), name="ships", daemon=True)
        ending = RunnerEnd(exit_status=0)
        is_wanted = True
        if (name := run_inputs.missing_base_model(run)) is not None:
            run.append(_base_model_missing(name))
            ships.start()
        else:
            executor = LocalExecutor(self.python, start.stop_grace_s, dies_with_us=True)
            handle = executor.start(run.path, self.attempt)
            ships.start()
            is_wanted = self._attend(executor, handle, run, start)
            ended = executor.ending(handle)
            ending = RunnerEnd(exit_status=ended.exit_status, signal=ended.signal, out_of_memory=ended.out_of_memory)
        shipping_over.set()
        while ships.is_alive() and is_wanted and not self._is_cut_off(start):
            ships.join(LOOK_S)
            is_wanted = self._asked() is not Request.END
        if self._lost.is_set() or not is_wanted:
            self._leave_nothing()
            return EXIT_LOCKED
        if ships.is_alive() or not self._put_end(run, ending):
            return EXIT_CUT_OFF
        if ending.exit_status is not None:
            return ending.exit_status
        return 128 + ending.signal if ending.signal is not None else 1

    def _build(self, run: RunDirectory, start: StartManifest) -> int | None:
        """Builds the run directory, again while the store cannot be reached; an exit code if that is not to be."""
        while True:
            try:
                run_inputs.build(run, self.shipped, start, self.models_folder)
                return None
            except FileNotFoundError:
                return EXIT_LOCKED  # the job was discarded
            except Conflict as error:
                logger.error("%s", error.message)
                self._put_end(run, RunnerEnd(exit_status=EXIT_DAMAGED))
                return EXIT_DAMAGED
            except Unavailable as error:
                logger.warning("%s", error.message)
            time.sleep(RETRY_S)
            if self._is_cut_off(start) or self._is_terminated:
                return EXIT_CUT_OFF

    def _attend(self, executor: LocalExecutor, handle: str, run: RunDirectory, start: StartManifest) -> bool:
        """Watches over the trainer until it has exited; passes on what it is asked. False: nobody wants it any more."""
        while executor.look(handle) is not RunState.GONE:
            if self._lost.is_set() or self._asked() is Request.END:
                executor.kill(handle)
                return False
            if self._is_cut_off(start):
                logger.error("store unreachable for half the lease job=%s attempt=%d", self.shipped.key, self.attempt)
                executor.stop(handle)
            elif self._asked() is Request.PAUSE:
                run.pause.touch()
            if self._is_terminated:
                self._hurry.set()
                self._asked_again.wait(LATEST_REQUEST_S)  # whoever wants it killed sends SIGTERM, too
            if self._asked() is Request.STOP or (self._is_terminated and self._asked() is not Request.END):
                executor.stop(handle)
            time.sleep(LOOK_S)
        return True

    def _asked(self) -> Request:
        """What the supervisor asked for when the store last answered."""
        return self._requested

    def _beat(self, start: StartManifest) -> None:
        """The thread that talks to the supervisor: a new number every `beat_s`, the request every `poll_s`."""
        sequence, beaten_at = 0, float("-inf")
        while not self._over.is_set():
            began, is_terminated = self.clock(), self._is_terminated
            try:
                if began - beaten_at >= start.beat_s:
                    self.shipped.put_beat(start.attempt, Beat(sequence=sequence, node=socket.gethostname()))
                    sequence, beaten_at, self._reached_at = sequence + 1, began, began
                self._requested = self.shipped.request(start.attempt)
                if is_terminated:
                    self._asked_again.set()
            except LuthierError as error:
                logger.warning("no beat job=%s %s", self.shipped.key, error)
            self._hurry.wait(min(start.poll_s, start.beat_s))
            self._hurry.clear()

    def _ship(self, shipper: Shipper, start: StartManifest, over: threading.Event) -> None:
        """The thread of events: ships until the trainer has exited and nothing is left to ship."""
        while not self._over.is_set():
            was_over = over.is_set()
            try:
                shipped = shipper.ship()
                self._failing_since = None
            except NotOurs as error:
                logger.error("%s", error)
                self._lost.set()
                return
            except (LuthierError, OSError) as error:
                logger.warning(
                    "not shipped job=%s attempt=%d %s", self.shipped.key, start.attempt, type(error).__name__
                )
                self._failing_since = self._failing_since or self.clock()
                self._over.wait(min(RETRY_S, start.lease_s / 10))
                continue
            if was_over and not shipped:
                return
            if not shipped:
                over.wait(SHIP_S)

    def _is_cut_off(self, start: StartManifest) -> bool:
        """Whether this node has not got a beat, or an event, to the store for half of the lease."""
        now, half_s = self.clock(), start.lease_s / 2
        since = self._failing_since
        return now - self._reached_at > half_s or (since is not None and now - since > half_s)

    def _put_end(self, run: RunDirectory, end: RunnerEnd) -> bool:
        """Stores the log's end and then the end object; False if the store cannot be reached."""
        try:
            if run.log.exists():
                with run.log.open("rb") as stream:
                    stream.seek(max(0, stream.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                    self.shipped.put_log(self.attempt, stream.read())
            self.shipped.put_end(self.attempt, end)
        except LuthierError as error:
            logger.error("end not shipped job=%s attempt=%d %s", self.shipped.key, self.attempt, error)
            return False
        return True

    def _leave_nothing(self) -> None:
        """Deletes what this attempt has left in the store if the whole job was discarded: nobody else would."""
        with suppress(Unavailable):
            if self.shipped.start(self.attempt) is None:
                self.shipped.delete(self.attempt)


def _base_model_missing(name: str) -> Failed:
    """The verdict of a run whose base model this node lacks; its user reads it, and asks the operator."""
    text = (
        f"The machine that was to train this job does not have the base model {name}. The operator of this service "
        "has to put it into LUTHIER_MODELS_DIR of every machine that trains."
    )
    return Failed(at=time.time(), code="base_model_missing", message=text)
