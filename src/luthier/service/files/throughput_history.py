"""Throughput and memory of earlier runs on this machine: a small file in the data folder, read by estimates."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from luthier.atomic_io import write_durably

FILE = "rates.json"
RECENT = 9
"""Recorded runs per kind."""
_ALIKE = 4.0
"""Up to this factor the steps of two runs are of one size: smaller ones use a processor less well."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A complete run: its trained tokens, and its seconds with validation and checkpoints.

    `step_seconds` are those of its `steps` steps only, `start_seconds` from the spec to the first step; `epochs` is
    their number. They are 0 in files of older versions.
    """

    tokens: int
    seconds: float
    peak_memory_bytes: int
    steps: int = 0
    epochs: int = 0
    step_seconds: float = 0.0
    start_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Medians over `runs` earlier runs, in seconds: until the first step, per trained token, and per epoch."""

    start: float
    per_token: float
    per_epoch: float
    """Without the steps: validation, checkpoint, probes, saving."""
    runs: int

    def seconds(self, tokens: int, epochs: int) -> float:
        """The duration of a run with so many trained tokens, from its spec to its verdict."""
        return self.start + tokens * self.per_token + epochs * self.per_epoch


def kind(base_model: str, *, full: bool, dropout: bool, gpu: bool) -> str:
    """The kind of a run: only runs of one kind are compared. Quantized weights are base models of their own."""
    words = [word for word, is_set in (("full", full), ("dropout", dropout), ("gpu", gpu)) if is_set]
    return " ".join([base_model, *words])


def read_records(data_folder: Path) -> dict[str, list[RunRecord]]:
    """The recorded runs of each kind, newest last; empty if there is no file or it cannot be read."""
    try:
        content = json.loads((data_folder / FILE).read_bytes())
        return {
            str(name): [RunRecord(**record) for record in (records if isinstance(records, list) else [records])]
            for name, records in content.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def pace(runs: Sequence[RunRecord], tokens_per_step: float) -> Pace | None:
    """The pace of earlier runs with steps of about this size, else of all complete runs; None if there is none."""
    complete = [run for run in runs if run.steps and run.tokens and run.epochs]
    similar = [run for run in complete if 1 / _ALIKE <= run.tokens / run.steps / max(tokens_per_step, 1.0) <= _ALIKE]
    chosen = similar or complete
    if not chosen:
        return None
    return Pace(
        start=median(run.start_seconds for run in chosen),
        per_token=median(run.step_seconds / run.tokens for run in chosen),
        per_epoch=median(max(run.seconds - run.step_seconds, 0.0) / run.epochs for run in chosen),
        runs=len(chosen),
    )


def add_record(data_folder: Path, name: str, record: RunRecord) -> None:
    """Adds a run to those of its kind, of which the newest RECENT are kept; not one without a duration.

    Raises NoSpace.
    """
    if record.seconds <= 0:
        return
    records = read_records(data_folder)
    records[name] = [*records.get(name, []), record][-RECENT:]
    data_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = {of_kind: [asdict(one) for one in runs] for of_kind, runs in records.items()}
    write_durably(data_folder / FILE, json.dumps(content, indent=2).encode())
