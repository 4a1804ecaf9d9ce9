"""The sinks that the operator's settings name."""

from luthier.core.ports import MetricsSink
from luthier.core.states import SinkName
from luthier.core.training.tracking import TrackingTargets
from luthier.trackers.library_sink import Library, LibrarySink
from luthier.trackers.mlflow_sink import MlflowSink
from luthier.trackers.tensorboard_sink import TensorBoardSink


def sinks(targets: TrackingTargets) -> list[MetricsSink]:
    """A sink for each target; connects to nothing and starts nothing."""
    chosen: list[MetricsSink] = []
    if targets.tensorboard is not None:
        chosen.append(TensorBoardSink(targets.tensorboard))
    if targets.mlflow is not None:
        chosen.append(MlflowSink(targets.mlflow, targets.project, targets.timeout_s))
    if (wandb := targets.wandb) is not None:
        mode = "online" if wandb.is_online else "offline"
        library = Library(SinkName.WANDB, targets.python, wandb.folder, targets.project, mode, wandb.key, wandb.url)
        chosen.append(LibrarySink(library, targets.timeout_s))
    if targets.trackio is not None:
        chosen.append(
            LibrarySink(Library(SinkName.TRACKIO, targets.python, targets.trackio, targets.project), targets.timeout_s)
        )
    return chosen
