"""Notices an engine's process that lives and does not answer: stopped from outside, hung, stuck in one computation.

Ends such a process, and times its restarts (`BackOff`, `revive`). `process_per_base` uses it for both engines.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from luthier.core.errors import Unavailable

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
FAULT_AFTER_S = 2.0
"""So long without an answer, and readiness says so."""
STOPPED_S = 2.0
"""A process that the system says is stopped (SIGSTOP) for so long is ended: nobody is there to continue it."""
SILENT_S = 15.0
"""Health is answered by threads that compute nothing: on a busy machine late, but not so late."""
STUCK_S = 120.0
"""The loop that computes tokens looks up after each batch. A large model may take many seconds for one."""
LOOPS_EVERY = 10
"""The computing loop is asked at each tenth look only: being asked keeps llama.cpp from noticing callers who left."""
LIVED_S = 60.0
MAX_BACK_OFF_S = 60.0


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a process showed: the system has it `stopped`, it `answers`, its computing loop `moves`.

    `moves` is None if the loop was not asked, or its answer proves nothing yet.
    """

    stopped: bool
    answers: bool
    moves: bool | None = None


class Watched(Protocol):
    """A process as the watchdog sees it."""

    @property
    def pid(self) -> int: ...

    def exit_status(self) -> int | None:
        """None while the process lives; below zero, the signal that ended it. Never waits."""
        ...

    def look(self, loop_too: bool) -> Look:
        """Asks the process for signs of life, with `loop_too` its computing loop too; waits a few seconds at most."""
        ...

    def kill(self) -> None:
        """Ends the process at once; returns when it is gone."""
        ...


class Vitals:
    """When one process last ran, answered and computed, in seconds on the watchdog's clock; `since`: first seen."""

    def __init__(self, now: float) -> None:
        self.since = self._ran = self._answered = self._moved = now

    def note(self, look: Look, now: float) -> str | None:
        """Adds a look; returns why the process must be ended, None if it need not be."""
        self._ran = self._ran if look.stopped else now
        self._answered = now if look.answers else self._answered
        self._moved = now if look.moves else self._moved
        if now - self._ran >= STOPPED_S:
            return f"stopped for {now - self._ran:.0f} s"
        if now - self._answered >= SILENT_S:
            return f"no answer for {now - self._answered:.0f} s"
        if now - self._moved >= STUCK_S:
            return f"no progress for {now - self._moved:.0f} s"
        return None

    def silent_s(self, now: float) -> float:
        """Seconds since the process was last known to run and to answer, whichever is longer ago."""
        return now - min(self._ran, self._answered)


class Watchdog:
    """Looks at processes every second in a thread of its own, and ends those that are stuck.

    `processes` lists them anew for each look. `on_death` is called once for each that has ended, by whatever ended it,
    with the seconds since the watchdog first saw it. `closing` ends the thread.
    """

    def __init__(
        self,
        processes: Callable[[], Iterable[Watched]],
        on_death: Callable[[Watched, float], None],
        closing: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._processes = processes
        self._on_death = on_death
        self._closing = closing
        self._clock = clock
        self._vitals: dict[Watched, Vitals] = {}
        self._dead: set[Watched] = set()
        self._looks = 0

    def start(self) -> None:
        """Starts the daemon thread; it ends once `closing` is set."""
        threading.Thread(target=self._run, name="engine-watchdog", daemon=True).start()

    def tick(self) -> None:
        """One look at every process: kills those that are stuck; `on_death` hears of those that have ended."""
        processes = list(self._processes())
        self._looks += 1
        self._dead &= set(processes)
        self._vitals = {process: self._vitals.get(process) or Vitals(self._clock()) for process in processes}
        for process, vitals in self._vitals.items():
            if process in self._dead:
                continue
            if process.exit_status() is None:
                reason = vitals.note(process.look(self._looks % LOOPS_EVERY == 0), self._clock())
                if reason is None:
                    continue
                logger.warning("engine is stuck, it is ended pid=%d reason=%s", process.pid, reason)
                process.kill()
            self._dead.add(process)
            self._on_death(process, self._clock() - vitals.since)

    def silent_s(self, process: Watched) -> float:
        """Seconds since a process was heard of; 0 if they are too few to be a fault, or it is not watched."""
        vitals = self._vitals.get(process)
        silent_s = 0.0 if vitals is None else vitals.silent_s(self._clock())
        return silent_s if silent_s >= LOOK_EVERY_S + FAULT_AFTER_S else 0.0

    def _run(self) -> None:
        """The thread: a tick each `LOOK_EVERY_S` until `closing`; an error of one is logged and ends nothing."""
        while not self._closing.wait(LOOK_EVERY_S):
            try:
                self.tick()
            except Exception:
                # A thread that watches must outlive whatever it looks at: the next look comes all the same.
                logger.exception("a look at the engines failed")


class BackOff:
    """How long to wait before a process that has ended is started anew: longer with each that died within `LIVED_S`."""

    def __init__(self) -> None:
        self._quick_deaths = 0

    def after(self, lived_s: float) -> float:
        """Counts a process that lived for so long; returns the seconds to wait, 60 at most.

        After a life of `LIVED_S` and after one quick death 0, then 4, 8 and so on.
        """
        self._quick_deaths = self._quick_deaths + 1 if lived_s < LIVED_S else 0
        return 0.0 if self._quick_deaths <= 1 else min(MAX_BACK_OFF_S, 2.0**self._quick_deaths)


def revive(start: Callable[[], object], back_off: BackOff, lived_s: float, closing: threading.Event) -> None:
    """Calls `start` until it does not raise Unavailable or the service closes; waits before each as `back_off` says.

    Occupies its thread meanwhile. `lived_s` is how long the process lived that is replaced.
    """
    delay_s = back_off.after(lived_s)
    while not closing.wait(delay_s):
        try:
            start()
        except Unavailable as error:
            logger.warning("engine could not be started anew code=%s", error.code)
            delay_s = back_off.after(0.0)
            continue
        return
