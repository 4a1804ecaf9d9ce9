"""The engine of CPUs and laptops: one llama.cpp process per base model, replaced by a new one to add an adapter."""

import logging
import os
import secrets
import shutil
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from luthier.core.errors import Unavailable
from luthier.core.ports import Address, ServedModel
from luthier.engines import llamacpp_process
from luthier.engines.llamacpp_process import EngineProcess, Launch

logger = logging.getLogger(__name__)

_LOOK_S = 0.5


@dataclass(slots=True)
class _Base:
    """A base model's state: what is wanted of it and the process that answers. `starting` lets one start at a time."""

    starting: threading.Lock = field(default_factory=threading.Lock)
    wanted: dict[str, ServedModel] = field(default_factory=dict)
    current: EngineProcess | None = None


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
        self._retiring: list[threading.Thread] = []
        _remove_leftovers(folder)

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
            retiring = list(self._retiring)
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
        process = llamacpp_process.start(self._launch, folder, present)
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
        self._retiring = [other for other in self._retiring if other.is_alive()] + [thread]
        thread.start()

    def _end_when_idle(self, process: EngineProcess) -> None:
        deadline = time.monotonic() + self._retire_max_s
        # A request may have taken the address and not have arrived yet.
        self._closing.wait(self._retire_grace_s)
        while not self._closing.is_set() and time.monotonic() < deadline and not process.is_idle():
            self._closing.wait(_LOOK_S)
        process.end()
        logger.info("engine retired pid=%d", process.pid)


def _closed() -> Unavailable:
    return Unavailable("engine_closed", "The service is stopping. Ask again when it is back.")


def _remove_leftovers(folder: Path) -> None:
    """Removes the folders of processes whose service is gone; they ended with it."""
    for leftover in folder.glob("*-*"):
        pid = leftover.name.partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(leftover, ignore_errors=True)
