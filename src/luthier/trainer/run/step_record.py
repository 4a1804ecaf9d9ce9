"""What a step leaves in the run directory, in the order that makes a crash between any two effects harmless."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Metrics
from luthier.run_directory.train_spec import TrainSpec
from luthier.trainer.run import diagnosis, epochs, results_csv
from luthier.trainer.run.checkpoint_retention import CheckpointKeeper
from luthier.trainer.run.event_log import EventLog


@dataclass(frozen=True, slots=True)
class StepRecord:
    """The steps of a run so far, and where each further one is written; only rank 0 has any.

    `steps` are the metrics of all steps, those of earlier attempts included.
    """

    run: RunDirectory
    spec: TrainSpec
    event_log: EventLog
    keeper: CheckpointKeeper
    steps_per_epoch: int
    steps: list[Metrics] = field(default_factory=list)

    def add(self, metrics: Metrics) -> None:
        """Writes a step: row, metrics event; at an epoch's end the checkpoint, its event, deletions; then advice.

        Raises what CheckpointKeeper.after_epoch does, NoSpace and RunTaken.
        """
        self.event_log.guard()
        results_csv.append(self.run.results, metrics, self.spec.method)
        self.event_log.metrics(metrics)
        self.steps.append(metrics)
        if metrics.step % self.steps_per_epoch == 0:
            self.keeper.after_epoch(self.finished, self.steps)
        for advice in diagnosis.advice_on(self.steps, self.steps_per_epoch, self.spec.early_stop_patience):
            self.event_log.advise(advice)

    @property
    def finished(self) -> Sequence[epochs.Epoch]:
        """The finished epochs."""
        return epochs.finished_epochs(self.steps, self.steps_per_epoch)

    @property
    def stalled(self) -> bool:
        """Whether early stopping ends the run here."""
        return epochs.stalled(self.finished, self.spec.early_stop_patience)
