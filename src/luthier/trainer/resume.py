"""The resume point: one file with all that the next step depends on, replaced whole."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from luthier.core.errors import Conflict
from luthier.run_directory import RunDirectory, TrainSpec, write_durably

INTERVAL_S = 60.0
MAX_COST = 0.02
"""Share of the running time that saving may take between epoch ends."""

_FILE = "state.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands after a step. The order of examples is a function of seed and epoch and needs no saving."""

    step: int = 0
    seconds: float = 0.0


class Saver:
    """Saves resume points, not more often than the interval and the cost allow."""

    def __init__(self, run: RunDirectory, spec: TrainSpec) -> None:
        self._path = run.resume / _FILE
        self._spec = _fingerprint(spec)
        self._saved_at = time.monotonic()
        self._pause_s = INTERVAL_S

    def due(self) -> bool:
        return time.monotonic() - self._saved_at >= self._pause_s

    def save(self, parameters: dict[str, Tensor], optimizer: torch.optim.AdamW, progress: Progress) -> None:
        """Puts the state after a step on disk, in place of the last one."""
        began = time.monotonic()
        tensors = {}
        for name, parameter in sorted(parameters.items()):
            tensors[f"adapter.{name}"] = parameter.detach().cpu()
            for moment in _MOMENTS:
                tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment].cpu()
        metadata = {"progress": json.dumps(asdict(progress)), "spec": self._spec}
        self._path.parent.mkdir(exist_ok=True)
        write_durably(self._path, safetensors.torch.save(tensors, metadata))
        self._saved_at = time.monotonic()
        self._pause_s = max(INTERVAL_S, (self._saved_at - began) / MAX_COST)

    def load(self, parameters: dict[str, Tensor], optimizer: torch.optim.AdamW) -> Progress:
        """Brings parameters and optimizer to the saved step; Progress of zero where nothing was saved."""
        if not self._path.exists():
            return Progress()
        progress = _progress(self._path, self._spec)
        tensors = safetensors.torch.load_file(self._path)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"adapter.{name}"])
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(progress.step), device=parameter.device),
                    **{moment: tensors[f"{moment}.{name}"].to(parameter.device, copy=True) for moment in _MOMENTS},
                }
        return progress


def _progress(path: Path, spec: str) -> Progress:
    with safetensors.safe_open(path, framework="pt") as stream:
        metadata = stream.metadata()
    if metadata["spec"] != spec:
        raise Conflict("spec_changed", "The run directory holds a state of other parameters than spec.json now names.")
    return Progress(**json.loads(metadata["progress"]))


def _fingerprint(spec: TrainSpec) -> str:
    """What must be equal for a state to be gone on from; the number of threads and the place of the base may change."""
    text = spec.model_dump_json(exclude={"threads", "base_folder"})
    return hashlib.sha256(text.encode()).hexdigest()
