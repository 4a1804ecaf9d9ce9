"""Engines whose processes load and unload adapters while they answer: our own, and vLLM."""

import logging
import threading
import time
from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from luthier.core.engine_ports import Address, ServedModel
from luthier.core.errors import Unavailable
from luthier.engines import process_folders, process_per_base
from luthier.engines.process_per_base import Base, Process, ProcessPerBaseEngine

logger = logging.getLogger(__name__)

LOOK_S = 0.5
"""Between two looks at whether a process has become idle, or a model's answers have ended."""


class HotLoadingProcess(Process, Protocol):
    """A process with a base model that takes further adapters at any time."""

    def load(self, model: ServedModel) -> None:
        """Has the process load the model's adapter, if it has one; waits for it. Raises Unavailable."""
        ...

    def unload(self, model_id: str) -> bool:
        """Has the process forget an adapter; False while answers of it are in progress."""
        ...


P = TypeVar("P", bound=HotLoadingProcess)


class HotLoadingEngine(ProcessPerBaseEngine[P]):
    """The part of core.engine_ports.Engine that does not depend on what the processes speak.

    A model that is released is unloaded once no call can hold its address any more (`retire_grace_s`) and its answers
    ended.
    """

    @abstractmethod
    def _launch_process(self, folder: Path, model: ServedModel) -> P:
        """A new process for the model's base, loaded, without the model's adapter. Raises Unavailable."""

    def _load(self, base: Base[P], model: ServedModel) -> Address:
        """Has the base's process load the adapter; starts a process if there is none."""
        with self._lock:
            process, others = base.current, list(base.wanted.values())
        if process is None or process.exit_status() is not None:
            process = self._start(base, model, others)
        try:
            process.load(model)
        except Unavailable:
            with self._lock:
                if not base.wanted and base.current is process:  # started for this model alone
                    base.current = None
                    self._retire(process)
            raise
        with self._lock:
            self._want(base, model)
        return process.address(model)

    def release(self, model_id: str) -> None:
        """Takes the model off the list; a base of which nothing is wanted loses its process.

        Else a thread unloads the adapter once it is idle.
        """
        with self._lock:
            for base in self._bases.values():
                model, process = base.wanted.pop(model_id, None), base.current
                if model is None or process is None:
                    continue
                if not base.wanted:
                    base.current = None
                    self._retire(process)
                elif model.adapter_folder is not None:
                    unload = partial(self._unload_when_idle, base, process, model_id)
                    threading.Thread(target=unload, name=f"unload-{process.pid}", daemon=True).start()

    def _start(self, base: Base[P], model: ServedModel, others: list[ServedModel]) -> P:
        """A new process with all that is wanted of the base, made its current one; an old one has ended.

        An adapter of `others` that cannot be loaded is logged only. Raises Unavailable.
        """
        began = time.monotonic()
        process = self._launch_process(process_folders.new_folder(self._folder), model)
        for other in process_per_base.present(others):
            try:
                process.load(other)
            except Unavailable as error:
                logger.warning("adapter not loaded again model=%s code=%s", other.id, error.code)
        with self._lock:
            if self._closing.is_set():
                process.end()
                raise process_per_base.closed()
            old, base.current = base.current, process
            if old is not None:
                self._retire(old)
        seconds = time.monotonic() - began
        logger.info("engine started base=%s pid=%d s=%.1f", model.base_model, process.pid, seconds)
        return process

    def _unload_when_idle(self, base: Base[P], process: P, model_id: str) -> None:
        """The thread of a released model: has the process unload the adapter once no answer uses it.

        Gives up if the model is wanted again, the process or the service ends, or after `retire_max_s`.
        """
        self._closing.wait(self._retire_grace_s)
        deadline = time.monotonic() + self._retire_max_s
        while not self._closing.is_set() and process.exit_status() is None and time.monotonic() < deadline:
            with base.changing:
                if model_id in base.wanted or process.unload(model_id):
                    return
            self._closing.wait(LOOK_S)
