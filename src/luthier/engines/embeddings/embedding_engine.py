"""The engine of embedding models: a process per model that rests when idle and is started anew when it dies."""

import logging
import os
import sys
import time
from pathlib import Path

from luthier.core.engine_ports import Address, ServedModel
from luthier.core.states import EngineName
from luthier.engines import process_folders, process_per_base
from luthier.engines.embeddings import embedding_process
from luthier.engines.embeddings.embedding_process import EmbeddingProcess, Launch
from luthier.engines.process_per_base import Base, ProcessPerBaseEngine
from luthier.engines.rest_policy import NEVER, RestPolicy

logger = logging.getLogger(__name__)

_LOOK_S = 0.5


class EmbeddingEngine(ProcessPerBaseEngine[EmbeddingProcess]):
    """Implements core.engine_ports.Engine for models that embed; `folder` holds a folder per process with its log."""

    name = EngineName.LLAMACPP

    def __init__(
        self,
        folder: Path,
        *,
        threads: int | None = None,
        python: str = sys.executable,
        start_timeout_s: float = 300.0,
        retire_grace_s: float = 10.0,
        retire_max_s: float = 600.0,
        rest: RestPolicy = NEVER,
    ) -> None:
        """`threads` None is one for each core. Starts the threads that watch processes, but no process."""
        self._launch = Launch(python, threads or os.cpu_count() or 1, start_timeout_s)
        super().__init__(folder, retire_grace_s, retire_max_s, _LOOK_S, rest)

    def _load(self, base: Base[EmbeddingProcess], model: ServedModel) -> Address:
        """Starts the model's process; to be called with `base.changing`. Raises Unavailable."""
        began = time.monotonic()
        process = embedding_process.start(self._launch, process_folders.new_folder(self._folder), model)
        with self._lock:
            if self._closing.is_set():
                process.end()
                raise process_per_base.closed()
            old, base.current = base.current, process
            self._want(base, model)
            if old is not None:
                self._retire(old)
        logger.info("engine started base=%s pid=%d s=%.1f", model.base_model, process.pid, time.monotonic() - began)
        return process.address(model)

    def release(self, model_id: str) -> None:
        """Ends the model's process, once it is idle; a model that is not loaded is no error."""
        with self._lock:
            for base in self._bases.values():
                if base.wanted.pop(model_id, None) and not base.wanted and base.current is not None:
                    self._retire(base.current)
                    base.current = None
