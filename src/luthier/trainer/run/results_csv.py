"""results.csv, the figures of a job that its owner downloads: a row per step, empty cells for what was not computed.

Seven columns as in the vendor's guide; a DPO run has columns of rewards after them.
"""

from pathlib import Path

from luthier.atomic_io import append_line, fsync_path, write_durably
from luthier.core.errors import Conflict
from luthier.core.states import Method
from luthier.run_directory.run_directory import RESULT_COLUMNS, REWARD_COLUMNS, RunDirectory
from luthier.run_directory.run_events import Metrics

_FIGURES = {"validation_mean_token_accuracy": "valid_mean_token_accuracy"}
"""The one column whose name in the guide is not that of its figure in events and checkpoints."""


def columns(method: Method) -> tuple[str, ...]:
    """The header's names, in order."""
    return RESULT_COLUMNS if method is Method.SUPERVISED else RESULT_COLUMNS + REWARD_COLUMNS


def rebuild(run: RunDirectory, step: int, method: Method) -> list[Metrics]:
    """Replaces the file by the header and the rows up to `step`, from the event log; returns those steps' metrics.

    The log is on disk step by step and JSON gives back the very same numbers, so whatever a crash did to the file (rows
    torn, lost, too many, no file) is repaired; later steps are computed again. Raises Conflict if the log lacks a step.
    """
    steps = [event for event, _ in run.tail() if isinstance(event, Metrics) and event.step <= step]
    if [metrics.step for metrics in steps] != list(range(1, step + 1)):
        raise Conflict("event_log_damaged", "The event log of this run lacks a step. Make a new job; check the disk.")
    header = ",".join(columns(method)) + "\n"
    write_durably(run.results, b"".join([header.encode(), *(_row(metrics, method) for metrics in steps)]))
    return steps


def append(path: Path, metrics: Metrics, method: Method) -> None:
    """Appends the row of one step, without waiting for the disk. Raises NoSpace."""
    append_line(path, _row(metrics, method), durable=False)


def fsync(path: Path) -> None:
    """Waits until the rows are on disk. Call it before the run's last event: nothing rebuilds them after that."""
    fsync_path(path)


def _row(metrics: Metrics, method: Method) -> bytes:
    """The line of one step. Floats are written as Python's repr, which reads back as the same number."""
    figures = {"step": metrics.step, **metrics.figures()}
    values = [figures.get(_FIGURES.get(name, name)) for name in columns(method)]
    return ",".join("" if value is None else repr(value) for value in values).encode() + b"\n"
