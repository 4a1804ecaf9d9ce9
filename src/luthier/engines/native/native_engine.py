"""Luthier's own engine: a process per base model, which loads adapters while it answers."""

import os
import sys
from pathlib import Path

from luthier.core.engine_ports import ServedModel
from luthier.core.states import EngineName
from luthier.engines.hot_loading import LOOK_S, HotLoadingEngine
from luthier.engines.native import native_process
from luthier.engines.native.native_process import EngineProcess, Launch
from luthier.engines.rest_policy import NEVER, RestPolicy


class NativeEngine(HotLoadingEngine[EngineProcess]):
    """Implements core.engine_ports.Engine.

    `folder` holds a folder per process with its log; `context_tokens` is what the answers of one process share,
    `sequences` how many it computes at a time.
    """

    name = EngineName.NATIVE

    def __init__(
        self,
        folder: Path,
        *,
        context_tokens: int = 16_384,
        sequences: int = 8,
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
        self._launch = Launch(python, context_tokens, sequences, threads or os.cpu_count() or 1, start_timeout_s)
        super().__init__(folder, retire_grace_s, retire_max_s, LOOK_S, rest)

    def _launch_process(self, folder: Path, model: ServedModel) -> EngineProcess:
        return native_process.start(self._launch, folder, model)
