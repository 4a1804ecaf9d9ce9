"""vLLM under test: the engine that runs it, the processes behind it, and the models that it answers with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from luthier.core.engine_ports import ServedModel
from luthier.engines.vllm.vllm_engine import VllmEngine
from waiting import until


@dataclass
class Models:
    """The base, a model as the trainer leaves it, and one of random weights whose probes torch computed."""

    base: ServedModel
    trained: ServedModel
    random: ServedModel

    @property
    def all(self) -> tuple[ServedModel, ...]:
        return self.base, self.trained, self.random


@dataclass
class VllmRunning:
    """The one engine of these tests, and how long its first start took."""

    engine: VllmEngine
    folder: Path
    start_s: float

    def process(self) -> psutil.Process:
        """Our own child, the parent of vLLM."""
        (child,) = [
            process
            for process in psutil.Process().children()
            if any(part.startswith(f"{self.folder}/") for part in process.cmdline())
        ]
        return child


def until_ended(processes: Sequence[psutil.Process], within_s: float = 10.0) -> None:
    """Waits without reaping: whoever started a process should learn its status."""
    until(lambda: not any(process.is_running() for process in processes), within_s)
