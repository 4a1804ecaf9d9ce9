"""The engine of CPUs and laptops: one llama.cpp process per base model, replaced by a new one to add an adapter."""

import logging
import os
import re
import secrets
import shutil
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from luthier.core.errors import Unavailable
from luthier.core.ports import Address, ServedModel
from luthier.engines.llamacpp import engine_process, watchdog
from luthier.engines.llamacpp.engine_process import EngineProcess, Launch
from luthier.engines.llamacpp.watchdog import BackOff, Watchdog, Watched

logger = logging.getLogger(__name__)

_LOOK_S = 1.5
"""Looks of less than a second apart keep llama.cpp from noticing callers who left (docs/serving.md)."""
_FOLDER = re.compile(r"(\d+)-[0-9a-f]{8}")
"""Folders of processes as they are named here; what has another name is not ours to remove."""


@dataclass(slots=True)
class _Base:
    """A base model's state: what is wanted of it and the process that answers. `starting` lets one start at a time."""

    starting: threading.Lock = field(default_factory=threading.Lock)
    wanted: dict[str, ServedModel] = field(default_factory=dict)
    current: EngineProcess | None = None
    back_off: BackOff = field(default_factory=BackOff)


class LlamaCppEngine:
    """Implements core.ports.Engine.

    `folder` holds a folder per process with its log; `context_tokens` is what the slots of one process share. An
    address is good until `retire_grace_s` after a newer one was given out; an answer under way then gets
    `retire_max_s` to end.
    """

    def __init__(
        self,
        folder: Path,
        *,
        context_tokens: int = 16_384,
        slots: int = 8,
        threads: int | None = None,
        python: str = sys.executable,
        start_timeout_s: float = 300.0,
        retire_grace_s: float = 10.0,
        retire_max_s: float = 600.0,
    ) -> None:
        self._folder = folder
        self._launch = Launch(python, context_tokens, slots, threads or os.cpu_count() or 1, start_timeout_s)
        self._retire_grace_s = retire_grace_s
        self._retire_max_s = retire_max_s
        self._bases: dict[Path, _Base] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._retiring: dict[EngineProcess, threading.Thread] = {}
        self._watchdog = Watchdog(self._processes, self._on_death, self._closing)
        self._watchdog.start()
        _remove_leftovers(folder)

    def loaded(self, model: ServedModel) -> Address | None:
        """The address of a model that a live process has; a load elsewhere is not waited for."""
        with self._lock:
            base = self._bases.get(model.base_folder.absolute())
            return None if base is None else self._loaded(base, model)

    def faults(self) -> list[str]:
        with self._lock:
            current = [base.current for base in self._bases.values() if base.wanted and base.current is not None]
        dead = [process.base_model for process in current if process.exit_status() is not None]
        silent = [(process.base_model, self._watchdog.silent_s(process)) for process in current]
        return [f"The engine of {base} has ended and is started anew." for base in dead] + [
            f"The engine of {base} has not answered for {silent_s:.0f} s; it is started anew if it goes on so."
            for base, silent_s in silent
            if silent_s and base not in dead
        ]

    def ensure(self, model: ServedModel) -> Address:
        """Starts or replaces the base's process if the model is not in it; that takes seconds, a loaded one does not.

        While a new process starts, the old one goes on answering. Raises Unavailable when the model cannot be served.
        """
        with self._lock:
            base = self._bases.setdefault(model.base_folder.absolute(), _Base())
            if (address := self._loaded(base, model)) is not None:
                return address
        with base.starting:
            with self._lock:
                if (address := self._loaded(base, model)) is not None:
                    return address
                others = [other for other in base.wanted.values() if other.id != model.id]
            process = self._start([*others, model])
            with self._lock:
                if self._closing.is_set():
                    process.end()
                    raise _closed()
                old, base.current = base.current, process
                base.wanted[model.id] = model
                if old is not None:
                    self._retire(old)
                return process.address(model)

    def release(self, model_id: str) -> None:
        """Takes the model off the list for the next process; a base of which nothing is wanted loses its process."""
        with self._lock:
            for base in self._bases.values():
                if base.wanted.pop(model_id, None) and not base.wanted and base.current is not None:
                    self._retire(base.current)
                    base.current = None

    def close(self) -> None:
        self._closing.set()
        with self._lock:
            running = [base.current for base in self._bases.values() if base.current is not None]
            retiring = list(self._retiring.values())
            self._bases.clear()
        for process in running:
            process.end()
        for thread in retiring:
            thread.join()

    def _loaded(self, base: _Base, model: ServedModel) -> Address | None:
        if self._closing.is_set():
            raise _closed()
        if base.current is None or not base.current.serves(model):
            return None
        base.wanted[model.id] = model
        return base.current.address(model)

    def _start(self, models: list[ServedModel]) -> EngineProcess:
        model = models[-1]
        # One whose files are gone was deleted while nobody told us: it must not keep the others from being served.
        present = [
            other for other in models if other is model or other.adapter_folder is None or other.adapter_folder.exists()
        ]
        began = time.monotonic()
        folder = self._folder / f"{os.getpid()}-{secrets.token_hex(4)}"
        process = engine_process.start(self._launch, folder, present)
        try:
            process.prove(model)
        except Unavailable:
            process.end()
            raise
        seconds = time.monotonic() - began
        logger.info(
            "engine started base=%s models=%d pid=%d s=%.1f", model.base_model, len(present), process.pid, seconds
        )
        return process

    def _retire(self, process: EngineProcess) -> None:
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

    def _processes(self) -> list[EngineProcess]:
        with self._lock:
            return [*self._retiring, *(base.current for base in self._bases.values() if base.current is not None)]

    def _on_death(self, process: Watched, lived_s: float) -> None:
        """Starts the process of a base anew if anything is wanted of it; callers meanwhile do so themselves."""
        with self._lock:
            base = next((base for base in self._bases.values() if base.current is process), None)
            if base is None or not base.wanted or self._closing.is_set():
                return
            wanted = list(base.wanted.values())[-1]
        logger.warning("engine ended, it is started anew base=%s pid=%d", wanted.base_model, process.pid)
        start = partial(self._ensure_again, base, wanted)
        arguments = (start, base.back_off, lived_s, self._closing)
        threading.Thread(target=watchdog.revive, args=arguments, name=f"revive-{process.pid}", daemon=True).start()

    def _ensure_again(self, base: _Base, model: ServedModel) -> None:
        if model.id in base.wanted:
            self.ensure(model)

    def _end_when_idle(self, process: EngineProcess) -> None:
        deadline = time.monotonic() + self._retire_max_s
        # A request may have taken the address and not have arrived yet.
        self._closing.wait(self._retire_grace_s)
        while not self._closing.is_set() and time.monotonic() < deadline and not process.is_idle():
            self._closing.wait(_LOOK_S)
        process.end()
        with self._lock:
            self._retiring.pop(process, None)
        logger.info("engine retired pid=%d", process.pid)


def _closed() -> Unavailable:
    return Unavailable("engine_closed", "The service is stopping. Ask again when it is back.")


def _remove_leftovers(folder: Path) -> None:
    """Removes the folders of processes whose service is gone; they ended with it."""
    for leftover in folder.glob("*-*"):
        ours = _FOLDER.fullmatch(leftover.name)
        if ours is not None and not psutil.pid_exists(int(ours[1])):
            shutil.rmtree(leftover, ignore_errors=True)
