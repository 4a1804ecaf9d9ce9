"""llama.cpp as an engine: a process per base model, replaced by a new one to add an adapter."""

import logging
import os
import sys
import time
from pathlib import Path

from luthier.core.engine_ports import Address, ServedModel
from luthier.core.errors import Unavailable
from luthier.core.states import EngineName
from luthier.engines import process_folders, process_per_base
from luthier.engines.llamacpp import engine_process
from luthier.engines.llamacpp.engine_process import EngineProcess, Launch
from luthier.engines.process_per_base import Base, ProcessPerBaseEngine
from luthier.engines.rest_policy import NEVER, RestPolicy

logger = logging.getLogger(__name__)

_LOOK_S = 1.5
"""Looks of less than a second apart keep llama.cpp from noticing callers who left (docs/serving.md)."""


class LlamaCppEngine(ProcessPerBaseEngine[EngineProcess]):
    """Implements core.engine_ports.Engine.

    `folder` holds a folder per process with its log; `context_tokens` is what the slots of one process share. An
    address is good until `retire_grace_s` after a newer one was given out; an answer under way then gets
    `retire_max_s` to end.
    """

    name = EngineName.LLAMACPP

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
        rest: RestPolicy = NEVER,
    ) -> None:
        """`threads` None is one for each core of the machine.

        Starts the threads that watch processes, but no process.
        """
        self._launch = Launch(python, context_tokens, slots, threads or os.cpu_count() or 1, start_timeout_s)
        super().__init__(folder, retire_grace_s, retire_max_s, _LOOK_S, rest)

    def _load(self, base: Base[EngineProcess], model: ServedModel) -> Address:
        """Starts or replaces the base's process: llama.cpp loads adapters at its start only.

        While a new process starts, the old one goes on answering.
        """
        with self._lock:
            others = [other for other in base.wanted.values() if other.id != model.id]
        process = self._start(model, process_per_base.present(others))
        with self._lock:
            if self._closing.is_set():
                process.end()
                raise process_per_base.closed()
            old, base.current = base.current, process
            self._want(base, model)
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

    def _start(self, model: ServedModel, others: list[ServedModel]) -> EngineProcess:
        """A new process with the models, proven by a token of `model`; it is not the base's current one yet.

        Raises Unavailable, after the process has been ended.
        """
        began = time.monotonic()
        models = [*others, model]
        process = engine_process.start(self._launch, process_folders.new_folder(self._folder), models)
        try:
            process.prove(model)
        except Unavailable:
            process.end()
            raise
        seconds = time.monotonic() - began
        logger.info(
            "engine started base=%s models=%d pid=%d s=%.1f", model.base_model, len(models), process.pid, seconds
        )
        return process
