"""results.csv: the guide's seven columns, a row per step, cells empty where nothing was computed.

A run that learns preferences has columns of rewards behind them.
"""

import os
from pathlib import Path

from luthier.core.errors import Conflict
from luthier.core.states import Method
from luthier.durable import append_line, write_durably
from luthier.run_directory import RESULT_COLUMNS, REWARD_COLUMNS, Metrics, RunDirectory

_FIGURES = {"validation_mean_token_accuracy": "valid_mean_token_accuracy"}
"""The one column whose name in the guide is not that of its figure in events and checkpoints."""


def columns(method: Method) -> tuple[str, ...]:
    return RESULT_COLUMNS if method is Method.SUPERVISED else RESULT_COLUMNS + REWARD_COLUMNS


def rebuild(run: RunDirectory, step: int, method: Method) -> list[Metrics]:
    """Writes the header and the rows up to `step` as the event log tells them, and gives those steps.

    Those after it are computed again.

    The log is on disk step by step and JSON gives back the very same numbers, so whatever a crash did to the file
    itself (rows torn, lost, too many, no file) is mended.
    """
    told = [event for event, _ in run.tail() if isinstance(event, Metrics) and event.step <= step]
    if [metrics.step for metrics in told] != list(range(1, step + 1)):
        raise Conflict("event_log_damaged", "The event log of this run lacks a step. Make a new job; check the disk.")
    header = ",".join(columns(method)) + "\n"
    write_durably(run.results, b"".join([header.encode(), *(_row(metrics, method) for metrics in told)]))
    return told


def append(path: Path, metrics: Metrics, method: Method) -> None:
    """Writes the row of one step."""
    append_line(path, _row(metrics, method), durable=False)


def sync(path: Path) -> None:
    """Puts the rows on disk: nothing rebuilds them once the verdict is written."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _row(metrics: Metrics, method: Method) -> bytes:
    """Floats as Python's repr, which reads back as the same number."""
    known = {"step": metrics.step, **metrics.figures()}
    values = [known.get(_FIGURES.get(name, name)) for name in columns(method)]
    return ",".join("" if value is None else repr(value) for value in values).encode() + b"\n"
