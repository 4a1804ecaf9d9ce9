"""Engines that run a process for each base model: which answers, which are ending, and what happens when one dies.

The common part of `NativeEngine` and `LlamaCppEngine`, which say how a process loads its models.
"""

import logging
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from luthier.core.engine_ports import Address, EngineState, ServedModel
from luthier.core.errors import Unavailable
from luthier.core.states import EngineName, LoadState
from luthier.engines import process_folders, rest_policy, watchdog
from luthier.engines.rest_policy import RestPolicy
from luthier.engines.watchdog import BackOff, Watchdog, Watched

logger = logging.getLogger(__name__)

REST_EVERY_S = 1.0


class Process(Watched, Protocol):
    """An engine process as its parent sees it."""

    folder: Path

    @property
    def base_model(self) -> str: ...

    def serves(self, model: ServedModel) -> bool:
        """Whether the process lives and an address for the model can be given."""
        ...

    def address(self, model: ServedModel) -> Address:
        """Where the model answers in this process; only for one that it serves."""
        ...

    def is_idle(self) -> bool:
        """Whether it computes nothing; a process that is gone is idle."""
        ...

    def end(self) -> None:
        """Ends the process now and removes its files; returns when it is gone."""
        ...

    def abandon(self) -> None:
        """Closes our ends of the pipes of a process that has ended; its folder with the log stays."""
        ...


P = TypeVar("P", bound=Process)


@dataclass(slots=True)
class Base(Generic[P]):
    """What an engine keeps of one base model. `current` is the process that answers, None if there is none.

    `wanted` are the models, by id, that were asked for and not released. `changing` lets one load at a time.
    """

    changing: threading.Lock = field(default_factory=threading.Lock)
    wanted: dict[str, ServedModel] = field(default_factory=dict)
    current: P | None = None
    used_at: float = field(default_factory=time.monotonic)
    """When an address of it was last given out, on the monotonic clock."""
    back_off: BackOff = field(default_factory=BackOff)


class ProcessPerBaseEngine(ABC, Generic[P]):
    """The part of core.engine_ports.Engine that does not depend on how a process loads its models.

    `look_s` is the pause in seconds between two looks at whether a retired process is idle. `_lock` guards `_bases` and
    `_retiring`.
    """

    name: EngineName

    def __init__(
        self, folder: Path, retire_grace_s: float, retire_max_s: float, look_s: float, rest: RestPolicy
    ) -> None:
        """Starts the watchdog's thread and the one that `rest` needs; removes folders whose service is gone."""
        self._folder = folder
        self._rest = rest
        self._retire_grace_s = retire_grace_s
        self._retire_max_s = retire_max_s
        self._look_s = look_s
        self._bases: dict[Path, Base[P]] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._retiring: dict[P, threading.Thread] = {}
        self._watchdog = Watchdog(self._processes, self._on_death, self._closing)
        self._watchdog.start()
        process_folders.remove_leftovers(folder)
        if not rest.is_never:
            threading.Thread(target=self._rest_forever, name="engine-rest", daemon=True).start()

    def ensure(self, model: ServedModel) -> Address:
        """Loads the model if it is not loaded, which takes seconds, and returns where it answers.

        Loads of one base come one after another. Raises Unavailable when the model cannot be served.
        """
        with self._lock:
            base = self._base(model)
            if (address := self._loaded(base, model)) is not None:
                return address
        with base.changing:
            with self._lock:
                if (address := self._loaded(base, model)) is not None:
                    return address
            return self._load(base, model)

    @abstractmethod
    def _load(self, base: Base[P], model: ServedModel) -> Address:
        """Loads a model that is not loaded; to be called with `base.changing`. Raises Unavailable."""

    def loaded(self, model: ServedModel) -> Address | None:
        """The address of a model that a live process has, None if none has it; a load elsewhere is not waited for.

        Raises Unavailable if the service closes just now.
        """
        with self._lock:
            base = self._bases.get(model.base_folder.absolute())
            return None if base is None else self._loaded(base, model)

    def faults(self) -> list[str]:
        """Why models that should answer do not, a sentence each for the operator; empty if all do."""
        with self._lock:
            current = [base.current for base in self._bases.values() if base.wanted and base.current is not None]
        dead = [process.base_model for process in current if process.exit_status() is not None]
        silent = [(process.base_model, self._watchdog.silent_s(process)) for process in current]
        return [f"The engine of {base} has ended and is started anew." for base in dead] + [
            f"The engine of {base} has not answered for {silent_s:.0f} s; it is started anew if it goes on so."
            for base, silent_s in silent
            if silent_s and base not in dead
        ]

    def state(self, model: ServedModel) -> EngineState:
        """Whether the model is loaded, and if not, why; loads nothing, and waits for no load."""
        with self._lock:
            base = self._bases.get(model.base_folder.absolute())
            process = None if base is None else base.current
        if base is None or model.id not in base.wanted:
            return self._state(LoadState.RESTING, "It is not loaded. The next call loads it.")
        if process is not None and process.exit_status() is not None:
            return self._state(LoadState.RESTARTING, "Its engine has ended and is started anew.")
        if process is not None and process.serves(model):
            if silent_s := self._watchdog.silent_s(process):
                text = f"Its engine has not answered for {silent_s:.0f} s, and is started anew if it goes on so."
                return self._state(LoadState.UNRESPONSIVE, text)
            return self._state(LoadState.READY, "It is loaded.")
        if base.changing.locked():
            return self._state(LoadState.LOADING, "It is being loaded.")
        return self._state(LoadState.RESTING, "Its engine rests: it was idle. The next call starts it.")

    def _state(self, state: LoadState, reason: str) -> EngineState:
        return EngineState(self.name, state, reason)

    def close(self) -> None:
        """Ends every process and returns when all are gone; `ensure` raises Unavailable from then on."""
        self._closing.set()
        with self._lock:
            running = [base.current for base in self._bases.values() if base.current is not None]
            retiring = list(self._retiring.values())
            self._bases.clear()
        for process in running:
            process.end()
        for thread in retiring:
            thread.join()

    def _base(self, model: ServedModel) -> Base[P]:
        """The state of a model's base, made if there is none yet; to be called with the lock."""
        return self._bases.setdefault(model.base_folder.absolute(), Base())

    def _loaded(self, base: Base[P], model: ServedModel) -> Address | None:
        """The model's address in the base's current process; None if that does not serve it.

        To be called with the lock. An address that is given out counts as a use. Raises Unavailable while the service
        closes.
        """
        if self._closing.is_set():
            raise closed()
        if base.current is None or not base.current.serves(model):
            return None
        self._want(base, model)
        return base.current.address(model)

    def _want(self, base: Base[P], model: ServedModel) -> None:
        """Notes that a model is in use: its base does not rest now, and a restart loads it. To be called with the lock.

        Raises Unavailable while the service closes.
        """
        if self._closing.is_set():
            raise closed()
        base.wanted[model.id] = model
        base.used_at = time.monotonic()

    def _rest_forever(self) -> None:
        """The thread: `rest_unused` each `REST_EVERY_S` until the service closes; an error is logged, no more."""
        while not self._closing.wait(REST_EVERY_S):
            try:
                self.rest_unused()
            except Exception:
                logger.exception("a look at idle engines failed")

    def rest_unused(self) -> None:
        """Retires processes as the policy says; one that computes something, or was used just now, is left alone.

        Over `memory_bytes` the least recently used go first, and the last one stays however large it is.
        """
        with self._lock:
            running = sorted((base for base in self._bases.values() if base.current), key=lambda base: base.used_at)
        held = [0 if base.current is None else rest_policy.memory_bytes(base.current.pid) for base in running]
        for place, base in enumerate(running):
            is_over = self._rest.memory_bytes is not None and sum(held) > self._rest.memory_bytes
            is_idle = self._rest.idle_s is not None and time.monotonic() - base.used_at > self._rest.idle_s
            is_last = sum(map(bool, held)) <= 1
            if (is_idle or (is_over and not is_last)) and self._rests(base):
                held[place] = 0

    def _rests(self, base: Base[P]) -> bool:
        """Retires the process of a base, unless it is in use; returns whether it did.

        Asks the process, which may take seconds.
        """
        process, used_at = base.current, base.used_at
        if process is None or time.monotonic() - used_at < self._retire_grace_s or not process.is_idle():
            return False
        with self._lock:
            if base.current is not process or base.used_at != used_at or self._closing.is_set():
                return False
            base.current = None
            self._retire(process)
        logger.info("engine rests base=%s pid=%d", process.base_model, process.pid)
        return True

    def _retire(self, process: P) -> None:
        """Has a thread end a process once it is idle; of one that has died, only closes the pipes.

        To be called with the lock.
        """
        status = process.exit_status()
        if status is not None:
            logger.warning("engine died pid=%d status=%d log=%s", process.pid, status, process.folder)
            process.abandon()
            return
        thread = threading.Thread(
            target=self._end_when_idle, args=(process,), name=f"retire-{process.pid}", daemon=True
        )
        self._retiring[process] = thread
        thread.start()

    def _processes(self) -> list[P]:
        """All that the watchdog looks at: the processes that answer, and those that are being retired."""
        with self._lock:
            return [*self._retiring, *(base.current for base in self._bases.values() if base.current is not None)]

    def _on_death(self, process: Watched, lived_s: float) -> None:
        """Starts a base's process anew, in a thread, if anything of it is wanted; callers meanwhile start it too."""
        with self._lock:
            base = next((base for base in self._bases.values() if base.current is process), None)
            if base is None or not base.wanted or self._closing.is_set():
                return
            wanted = list(base.wanted.values())[-1]
        logger.warning("engine ended, it is started anew base=%s pid=%d", wanted.base_model, process.pid)
        start = partial(self._ensure_again, base, wanted)
        arguments = (start, base.back_off, lived_s, self._closing)
        threading.Thread(target=watchdog.revive, args=arguments, name=f"revive-{process.pid}", daemon=True).start()

    def _ensure_again(self, base: Base[P], model: ServedModel) -> None:
        """Loads a model again, unless it was released since its process died."""
        if model.id in base.wanted:
            self.ensure(model)

    def _end_when_idle(self, process: P) -> None:
        """The thread of a retired process: ends it once idle, after `retire_max_s`, or as the service closes."""
        deadline = time.monotonic() + self._retire_max_s
        # A request may have taken the address and not have arrived yet.
        self._closing.wait(self._retire_grace_s)
        while not self._closing.is_set() and time.monotonic() < deadline and not process.is_idle():
            self._closing.wait(self._look_s)
        process.end()
        with self._lock:
            self._retiring.pop(process, None)
        logger.info("engine retired pid=%d", process.pid)


def present(models: list[ServedModel]) -> list[ServedModel]:
    """The models whose adapter folder is there, or that have none: a deleted one must not keep others from loading."""
    return [model for model in models if model.adapter_folder is None or model.adapter_folder.exists()]


def closed() -> Unavailable:
    """The error of a call that comes while the service stops."""
    return Unavailable("engine_closed", "The service is stopping. Ask again when it is back.")
