"""The table of what differs between jobs: data, settings, outcome."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.core.models import File
from luthier.service.overviews.comparison import ComparedJob

COLORS = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One setting or figure: its value of each job as text, and whether they differ."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


def rows(compared: Sequence[ComparedJob]) -> list[Row]:
    """Every row, equal ones included, data first and the outcome last."""
    table = [_of_job(one) for one in compared]
    names = list(dict.fromkeys(name for column in table for name in column))
    return [Row(name, tuple(column.get(name, "–") for column in table)) for name in names]


def colors(job_ids: Sequence[str]) -> dict[str, int]:
    """A colour, 1 to COLORS, for each job: the same in every comparison unless two of them would have one colour."""
    chosen: dict[str, int] = {}
    for job_id in sorted(job_ids):
        wanted = zlib.crc32(job_id.encode())
        in_order = [1 + (wanted + distance) % COLORS for distance in range(COLORS)]
        chosen[job_id] = next(color for color in in_order if color not in chosen.values())
    return chosen


def _of_job(one: ComparedJob) -> dict[str, str]:
    """The values of one job by the name of their row."""
    job, asked = one.job, one.job.hyperparameters
    best = one.best
    last = one.checkpoints[-1] if one.checkpoints else None
    took = job.finished_at - job.started_at if job.finished_at and job.started_at else None
    values: dict[str, object | None] = {
        "state": str(job.status).replace("_", " "),
        "base model": job.base_model,
        "continued from": job.parent_model,
        "training file": _file(one.training_file, job.training_file),
        "validation file": _file(one.validation_file, job.validation_file),
        "method": str(job.method),
        "epochs": asked.n_epochs,
        "batch size": asked.batch_size,
        "learning rate multiplier": asked.learning_rate_multiplier,
        "beta": asked.beta,
        "seed": job.seed,
        "early stopping patience": job.early_stop_patience,
        **{name.replace("_", " "): _plain(value) for name, value in _recipe(job.extras).items()},
        "trained tokens": None if job.trained_tokens is None else f"{job.trained_tokens:,}",
        "time": None if took is None else f"{took.total_seconds():,.0f} s",
        **({} if last is None else {f"last {_words(name)}": f"{value:.4g}" for name, value in last.metrics.items()}),
        "best checkpoint": None if best is None else f"step {best.step}",
        "best validation loss": None if best is None else _figure(best.metrics.get("full_valid_loss")),
    }
    return {name: "–" if value is None else str(value) for name, value in values.items()}


def _recipe(extras: object) -> dict[str, object]:
    """The settings of the LoRA recipe among a job's extras; empty if the job has none."""
    recipe = extras.get("luthier") if isinstance(extras, dict) else None
    return recipe if isinstance(recipe, dict) else {}


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _file(file: File | None, file_id: str | None) -> str | None:
    """A file by name and the beginning of its sha256, which tells same names with other content apart."""
    if file_id is None:
        return None
    return f"{file_id} (deleted)" if file is None else f"{file.filename} ({file.sha256[:8]})"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"
