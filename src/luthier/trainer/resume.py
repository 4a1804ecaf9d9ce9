"""The resume point: one file with all that the next step depends on, replaced whole, checked when it is read."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from luthier.core.errors import Conflict
from luthier.durable import make_folder, write_durably
from luthier.run_directory import RunDirectory, TrainSpec
from luthier.trainer import checkpoint
from luthier.trainer.journal import Journal

MAX_COST = 0.02
"""Share of the running time that saving may take between epoch ends."""

FILE = "state.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


class _Unreadable(Exception):
    """The file is there and is not what was written."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands after a step. The order of examples is a function of seed and epoch and needs no saving."""

    step: int = 0
    seconds: float = 0.0


class Saver:
    """Saves resume points, not more often than the interval and the cost allow."""

    def __init__(self, run: RunDirectory, spec: TrainSpec, clock: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._path = run.resume / FILE
        self._spec = _fingerprint(spec)
        self._clock = clock
        self._interval_s = spec.save_interval_s
        self._saved_at = clock()
        self._pause_s = spec.save_interval_s

    def due(self) -> bool:
        return self._clock() - self._saved_at >= self._pause_s

    def save(self, parameters: dict[str, Tensor], optimizer: torch.optim.AdamW, progress: Progress) -> None:
        """Puts the state after a step on disk, in place of the last one."""
        began = self._clock()
        tensors = {}
        for name, parameter in parameters.items():
            tensors[f"adapter.{name}"] = parameter.detach().cpu()
            for moment in _MOMENTS:
                tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment].cpu()
        metadata = {"progress": json.dumps(asdict(progress)), "spec": self._spec}
        metadata["sha256"] = _digest(metadata, tensors)
        make_folder(self._path.parent)
        write_durably(self._path, safetensors.torch.save(tensors, metadata))
        self._saved_at = self._clock()
        self._pause_s = max(self._interval_s, (self._saved_at - began) / MAX_COST)

    def load(self, parameters: dict[str, Tensor], optimizer: torch.optim.AdamW, journal: Journal) -> Progress:
        """Brings parameters and optimizer to the saved step; Progress of zero where there is none to go on from.

        A saved step counts only with all that was made up to it. No crash takes any of that away; where something
        did, the journal says what, and the run begins again: its first step depends on nothing but the spec.
        Raises Conflict where the state is that of another spec.
        """
        if not self._path.exists():
            return Progress()
        try:
            progress, tensors = self._read(parameters)
        except _Unreadable:
            return _afresh(journal, "the saved state cannot be read")
        if journal.step < progress.step:
            return _afresh(journal, "the event log ends before the saved step")
        for folder in journal.kept:
            if not checkpoint.is_whole(self._run, folder):
                return _afresh(journal, f"checkpoint {folder} is not whole")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"adapter.{name}"])
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(progress.step), device=parameter.device),
                    **{moment: tensors[f"{moment}.{name}"].to(parameter.device, copy=True) for moment in _MOMENTS},
                }
        return progress

    def _read(self, parameters: Mapping[str, Tensor]) -> tuple[Progress, dict[str, Tensor]]:
        try:
            with safetensors.safe_open(self._path, framework="pt") as stream:
                metadata = dict(stream.metadata() or {})
            tensors = safetensors.torch.load_file(self._path)
        except safetensors.SafetensorError as error:
            raise _Unreadable from error
        if metadata.pop("sha256", None) != _digest(metadata, tensors):
            raise _Unreadable
        if metadata["spec"] != self._spec:
            text = "The run directory holds a state of other parameters than spec.json now names."
            raise Conflict("spec_changed", text)
        # A newer trainer may name its parameters otherwise.
        if tensors.keys() != {f"{kind}.{name}" for name in parameters for kind in ("adapter", *_MOMENTS)}:
            raise _Unreadable
        return Progress(**json.loads(metadata["progress"])), tensors


def _afresh(journal: Journal, reason: str) -> Progress:
    journal.say(f"Training begins again from its first step, to the same end: {reason}.")
    return Progress()


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _fingerprint(spec: TrainSpec) -> str:
    """What must be equal for a state to be gone on from: not threads, the place of the base, how often is saved."""
    text = spec.model_dump_json(exclude={"threads", "base_folder", "save_interval_s"})
    return hashlib.sha256(text.encode()).hexdigest()
