"""The resume point: one file with all that the next step depends on, written atomically, verified when read."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from luthier.atomic_io import make_folder, write_durably
from luthier.core.errors import Conflict
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.train_spec import TrainSpec
from luthier.trainer.ranks.rank_group import RankGroup
from luthier.trainer.run import checkpoint
from luthier.trainer.run.event_log import EventLog

MAX_COST = 0.02
"""Maximum share of the running time that saving takes between epoch ends."""

MAX_HASTY_COST = 0.2
"""The same after an attempt that was killed: the next kill may come as soon."""

FILE = "state.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


class _Unreadable(Exception):
    """The file exists and is damaged."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: its last finished step (0: none) and the seconds that all attempts have trained.

    The order of examples is a function of seed and epoch and is not saved.
    """

    step: int = 0
    seconds: float = 0.0


class ResumePoint:
    """Saves resume points, not more often than the interval and the cost of saving allow, and restores the last one.

    With `hasty` the first is due after the first step, the next as long after it as the attempt has taken by then, and
    so on in doubling times: whatever ends the attempt, about half of its time has been saved.
    """

    def __init__(
        self,
        run: RunDirectory,
        spec: TrainSpec,
        clock: Callable[[], float] = time.monotonic,
        *,
        hasty: bool = False,
    ) -> None:
        """Starts the clock; `hasty` after an attempt that was interrupted. `clock` gives seconds."""
        self._run = run
        self._path = run.resume / FILE
        self._spec = _spec_hash(spec)
        self._clock = clock
        self._interval_s = spec.save_interval_s
        self._hasty = hasty
        self._began = self._saved_at = clock()
        self._pause_s = 0.0 if hasty else spec.save_interval_s

    def due(self) -> bool:
        """Whether so much time has passed since the last save that another one is worth its cost."""
        return self._clock() - self._saved_at >= self._pause_s

    def save(self, parameters: dict[str, Tensor], optimizer: torch.optim.AdamW, progress: Progress) -> None:
        """Replaces the resume point by the state after a step, atomically. Raises NoSpace.

        The more time that took, the later the next one is due.
        """
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
        cost_s = self._saved_at - began
        self._pause_s = max(self._interval_s, cost_s / MAX_COST)
        if self._hasty:
            self._pause_s = min(self._pause_s, max(self._saved_at - self._began, cost_s / MAX_HASTY_COST))

    def load(self, parameters: dict[str, Tensor], optimizer: torch.optim.AdamW, event_log: EventLog) -> Progress:
        """Restores parameters and optimizer in place; Progress of zero if there is no resume point that can be trusted.

        A saved step counts only with all outputs up to it. No crash removes any of those; if something else did, the
        event log says what is missing and the run starts over: its first step depends on the spec only. Raises Conflict
        if the state belongs to another spec.
        """
        if not self._path.exists():
            return Progress()
        try:
            progress, tensors = self._read(parameters)
        except _Unreadable:
            return _afresh(event_log, "the saved state cannot be read")
        if event_log.step < progress.step:
            return _afresh(event_log, "the event log ends before the saved step")
        for folder in event_log.kept:
            if not checkpoint.is_complete(self._run, folder):
                return _afresh(event_log, f"checkpoint {folder} is not whole")
        for folder in event_log.held:
            if not checkpoint.is_held(self._run, folder):
                return _afresh(event_log, f"checkpoint {folder} is not there")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"adapter.{name}"])
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(progress.step), device=parameter.device),
                    **{moment: tensors[f"{moment}.{name}"].to(parameter.device, copy=True) for moment in _MOMENTS},
                }
        return progress

    def _read(self, parameters: Mapping[str, Tensor]) -> tuple[Progress, dict[str, Tensor]]:
        """The file's content, verified. Raises _Unreadable where it is damaged, Conflict if another spec wrote it."""
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


def share(
    ranks: RankGroup, progress: Progress, parameters: Mapping[str, Tensor], optimizer: torch.optim.AdamW
) -> Progress:
    """Gives all ranks the progress, parameters and optimizer state of rank 0, which alone has loaded them."""
    if ranks.size == 1:
        return progress
    step = ranks.most(progress.step if ranks.leads else 0)
    with torch.no_grad():
        for parameter in parameters.values():
            if step and not ranks.leads:
                zeros = {moment: torch.zeros_like(parameter) for moment in _MOMENTS}
                optimizer.state[parameter] = {"step": torch.tensor(float(step), device=parameter.device), **zeros}
            moments = [optimizer.state[parameter][moment] for moment in _MOMENTS] if step else []
            ranks.copy_from_rank_0([parameter.data, *moments])
    return replace(progress, step=step)


def fingerprint(parameters: Mapping[str, Tensor]) -> bytes:
    """A hash of all parameters' names and bytes, which must be equal in all ranks."""
    return _digest({}, parameters).encode()


def _afresh(event_log: EventLog, reason: str) -> Progress:
    """Logs why the saved state is not used, and returns the progress of a run that has not begun."""
    event_log.say(f"Training begins again from its first step, to the same end: {reason}.")
    return Progress()


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """The sha256 (hex) of a file's metadata and of its tensors' names, types, shapes and bytes."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _spec_hash(spec: TrainSpec) -> str:
    """A hash of what must be equal for a state to be resumed: not threads, the base's folder or the save interval.

    `tuning` follows from `lora`; without it states of versions that did not write it can be resumed.
    """
    text = spec.model_dump_json(exclude={"threads", "base_folder", "save_interval_s", "tuning"})
    return hashlib.sha256(text.encode()).hexdigest()
