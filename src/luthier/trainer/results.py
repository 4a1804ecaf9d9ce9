"""results.csv: the guide's seven columns, a row per step, cells empty where nothing was computed."""

import os
from pathlib import Path

from luthier.run_directory import RESULT_COLUMNS, Metrics, write_durably

_HEADER = (",".join(RESULT_COLUMNS) + "\n").encode()


def rewind(path: Path, step: int) -> None:
    """Leaves the header and the rows up to `step`: those after it are computed again."""
    kept = [_HEADER]
    if step:
        rows = path.read_bytes().splitlines(keepends=True)[1 : step + 1]
        assert len(rows) == step, "results.csv lost rows of finished steps"
        kept += rows
    write_durably(path, b"".join(kept))


def append(path: Path, metrics: Metrics) -> None:
    """Writes the row of one step. Floats as Python's repr, which reads back as the same number."""
    values = (
        metrics.step,
        metrics.train_loss,
        metrics.train_mean_token_accuracy,
        metrics.valid_loss,
        metrics.valid_mean_token_accuracy,
        metrics.full_valid_loss,
        metrics.full_valid_mean_token_accuracy,
    )
    row = ",".join("" if value is None else repr(value) for value in values)
    with path.open("ab", buffering=0) as stream:
        stream.write(row.encode() + b"\n")


def sync(path: Path) -> None:
    """Puts the rows on disk; called before a resume point that counts on them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
