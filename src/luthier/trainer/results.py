"""results.csv: the guide's seven columns, a row per step, cells empty where nothing was computed."""

import os
from pathlib import Path

from luthier.core.errors import Conflict
from luthier.durable import append_line, write_durably
from luthier.run_directory import RESULT_COLUMNS, Metrics, RunDirectory

_HEADER = (",".join(RESULT_COLUMNS) + "\n").encode()


def rebuild(run: RunDirectory, step: int) -> None:
    """Writes the header and the rows up to `step` as the event log tells them: those after it are computed again.

    The log is on disk step by step and JSON gives back the very same numbers, so whatever a crash did to the file
    itself (rows torn, lost, too many, no file) is mended.
    """
    told = [event for event, _ in run.tail() if isinstance(event, Metrics) and event.step <= step]
    if [metrics.step for metrics in told] != list(range(1, step + 1)):
        raise Conflict("event_log_damaged", "The event log of this run lacks a step. Make a new job; check the disk.")
    write_durably(run.results, b"".join([_HEADER, *map(_row, told)]))


def append(path: Path, metrics: Metrics) -> None:
    """Writes the row of one step."""
    append_line(path, _row(metrics), durable=False)


def sync(path: Path) -> None:
    """Puts the rows on disk: nothing rebuilds them once the verdict is written."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _row(metrics: Metrics) -> bytes:
    """Floats as Python's repr, which reads back as the same number."""
    values = (
        metrics.step,
        metrics.train_loss,
        metrics.train_mean_token_accuracy,
        metrics.valid_loss,
        metrics.valid_mean_token_accuracy,
        metrics.full_valid_loss,
        metrics.full_valid_mean_token_accuracy,
    )
    return ",".join("" if value is None else repr(value) for value in values).encode() + b"\n"
