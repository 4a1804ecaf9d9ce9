"""What a step leaves in the run directory, in the order that makes a crash between any two effects harmless."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from luthier.data.rendering.renderer import Rendered
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Metrics
from luthier.run_directory.train_spec import TrainSpec
from luthier.trainer.dataset import packing
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


def cost(sequences: list[Rendered], seconds: float, before: Sequence[Metrics]) -> dict[str, float | None]:
    """The tokens and the seconds of a step, as fields of Metrics: throughput is computed from them.

    `before` are the metrics of all steps before it; those of an older version's log may lack the running total.
    """
    tokens = sum(len(sequence.token_ids) for sequence in sequences)
    trained = before[-1].trained_tokens if before else 0
    if trained is None:
        trained = sum(step.tokens or 0 for step in before)
    return {
        "tokens": tokens,
        "supervised_tokens": packing.supervised_tokens(sequences),
        "trained_tokens": trained + tokens,
        "seconds": seconds,
    }
