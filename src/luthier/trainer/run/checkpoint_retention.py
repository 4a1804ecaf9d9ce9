"""Checkpoint retention: an epoch's checkpoint is saved, gets probes if it is kept, and replaces older ones.

Probes cost about as much as training on 500 tokens. Where an epoch is not much longer than that, a checkpoint that is
likely to be dropped is held without them, and gets them later if it stays after all. What ends up in `checkpoints/` is
the same either way, and a function of the spec and the data alone.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from luthier import model_folder
from luthier.core.states import Tuning
from luthier.model_folder import CheckpointFolder
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import CheckpointHeld, CheckpointSaved, Metrics
from luthier.trainer.model import stored_weights
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.run import checkpoint, epochs
from luthier.trainer.run.epochs import Epoch
from luthier.trainer.run.event_log import EventLog
from luthier.trainer.run.provenance import Origin

SMALL_EPOCH_TOKENS = 8192
"""An epoch of more tokens has its probes at once: beside it they are short, and its checkpoint can be deployed then."""


@dataclass(frozen=True, slots=True)
class CheckpointKeeper:
    """Keeps the checkpoints of one run. `probes` computes the bytes of probes.json from the model's present weights.

    `epoch_tokens` are the training tokens of an epoch.
    """

    run: RunDirectory
    tuned: TunedModel
    origin: Origin
    event_log: EventLog
    probes: Callable[[], bytes]
    epoch_tokens: int

    def after_epoch(self, so_far: Sequence[Epoch], steps: Sequence[Metrics]) -> None:
        """Saves or holds the checkpoint of the last epoch of `so_far`, logs it, and deletes those that it replaces.

        `steps` are the metrics of all steps so far. Held checkpoints that stay are completed first (the best; at the
        run's end all that are kept), so that checkpoints are logged in their order. Raises as checkpoint.save does, and
        RunTaken.
        """
        spec, last = self.origin.spec, so_far[-1]
        ends = last.number == spec.n_epochs or epochs.stalled(so_far, spec.early_stop_patience)
        values = steps[last.step - 1].figures()
        folder = model_folder.folder_name(last.step)
        dropped = tuple(model_folder.folder_name(one.step) for one in epochs.dropped(so_far, spec.keep_checkpoints))
        if not ends and self._likely_makes_way(last):
            self.event_log.guard()
            checkpoint.hold(self.run, self.tuned, self.origin, last.step, last.number, values)
            self.event_log.hold(
                CheckpointHeld(at=time.time(), step=last.step, epoch=last.number, folder=folder, dropped=dropped)
            )
        else:
            staying = epochs.kept(so_far, spec.keep_checkpoints) if ends else [epochs.best(so_far)]
            for older in staying:
                self._complete_held(older, steps[older.step - 1])
            probes_json = self.probes()
            self.event_log.guard()
            checkpoint.save(self.run, self.tuned, self.origin, probes_json, last.step, last.number, values)
            self._tell(last, values, dropped)
        checkpoint.drop(self.run, dropped)

    def _likely_makes_way(self, epoch: Epoch) -> bool:
        """Whether newer checkpoints will replace it, unless it is the best, and its epoch is short beside probes."""
        spec = self.origin.spec
        small = (
            self.epoch_tokens <= SMALL_EPOCH_TOKENS and spec.tuning is Tuning.LORA
        )  # all weights are not swapped lightly
        return small and epoch.number <= spec.n_epochs - spec.keep_checkpoints

    def _complete_held(self, epoch: Epoch, metrics: Metrics) -> None:
        """Completes a held checkpoint with probes of its own stored weights, and logs it; else does nothing."""
        folder = model_folder.folder_name(epoch.step)
        if folder not in self.event_log.held:
            return
        values = metrics.figures()
        if not checkpoint.is_complete(self.run, folder):
            with _weights_of(self.tuned, self.run.checkpoints / folder):
                probes_json = self.probes()
            self.event_log.guard()
            checkpoint.complete_held(self.run, self.origin, probes_json, epoch.step, epoch.number, values)
        self._tell(epoch, values, ())

    def _tell(self, epoch: Epoch, values: dict[str, float], dropped: tuple[str, ...]) -> None:
        """Logs a complete checkpoint with its figures and the folders that are deleted for it."""
        folder = model_folder.folder_name(epoch.step)
        self.event_log.checkpoint(
            CheckpointSaved(
                at=time.time(), step=epoch.step, epoch=epoch.number, folder=folder, metrics=values, dropped=dropped
            )
        )


@contextmanager
def _weights_of(tuned: TunedModel, folder: Path) -> Iterator[None]:
    """Loads a checkpoint's adapter into the model for the duration, and then restores the present weights."""
    kept = {name: parameter.detach().clone() for name, parameter in tuned.parameters.items()}
    stored_weights.load(tuned.parameters, CheckpointFolder(folder).adapter_weights)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in tuned.parameters.items():
                parameter.copy_(kept[name])
