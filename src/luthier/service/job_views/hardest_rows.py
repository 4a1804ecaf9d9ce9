"""The rows of a job that were learned least: the greatest losses of its last epoch, with what the model saw of each."""

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from luthier.core.errors import LuthierError
from luthier.core.models import Job
from luthier.core.states import TERMINAL_JOB_STATUSES, EventCode, Method
from luthier.service.context import Context
from luthier.service.files import files, shown_rows
from luthier.service.files.data_check import Rules
from luthier.service.files.shown_rows import ShownRow
from luthier.service.jobs import job_recipes, jobs, train_specs
from luthier.store.queries import events


@dataclass(frozen=True, slots=True)
class HardRow:
    """A row of the training file by its line: its mean loss in the first and the last epoch, in nats per learned token.

    `row` is the row as the model sees it; None if it can no longer be shown.
    """

    line: int
    first_loss: float
    last_loss: float
    n_tokens: int
    learned_tokens: int
    row: ShownRow | None


@dataclass(frozen=True, slots=True)
class HardestRows:
    """The hardest first; `reason` is a sentence if there are none, or if their text cannot be shown."""

    job: Job
    rows: list[HardRow]
    reason: str | None


def read(context: Context, resource_id: str, job_id: str, limit: int) -> HardestRows:
    """At most `limit` rows of a job of the resource. Raises NotFound for the job."""
    with context.database.reading() as tx:
        job = jobs.require(tx, resource_id, job_id)
        data = events.data_of_last(tx, job_id, EventCode.EXAMPLE_LOSSES_FILE)
    if data is None:
        return HardestRows(job, [], _why_none(job))
    try:
        losses = files.get(context, resource_id, str(data["file_id"]))
        hardest = heapq.nlargest(limit, _rows(files.content(context, losses)), key=lambda row: row.last_loss)
    except (LuthierError, FileNotFoundError):
        return HardestRows(job, [], f"The file of this job's example losses, {data['file_id']}, was deleted.")
    shown, reason = _shown(context, job, [row.line for row in hardest])
    rows = [
        HardRow(row.line, row.first_loss, row.last_loss, row.n_tokens, row.learned_tokens, shown.get(row.line))
        for row in hardest
    ]
    return HardestRows(job, rows, reason)


def _why_none(job: Job) -> str:
    """Why a job has no losses of single examples."""
    if job.method is not Method.SUPERVISED:
        return "Losses of single rows are kept of supervised jobs only."
    if job.status not in TERMINAL_JOB_STATUSES:
        return "The losses of single rows are known when the job has succeeded."
    return f"The job has no losses of single rows: it has {job.status}, or an older version trained it."


def _rows(chunks: Iterable[bytes]) -> Iterator[HardRow]:
    """The rows of example_losses.csv with finite losses, without their text; its columns are the trainer's."""
    for line in shown_rows.lines(chunks):
        cells = line.content.decode("ascii", "replace").split(",")
        try:
            number, tokens, learned = map(int, cells[:3])
            first, last = map(float, cells[3:5])
        except ValueError:  # the header
            continue
        if math.isfinite(first) and math.isfinite(last):
            yield HardRow(number, first, last, tokens, learned, None)


def _shown(context: Context, job: Job, numbers: list[int]) -> tuple[dict[int, ShownRow], str | None]:
    """The rows of these lines of the training file as the model sees them; the reason if they cannot be shown."""
    entry = context.catalog.find(job.base_model)
    try:
        if entry is None:
            return {}, f"{job.base_model} is not in the catalog any more, so rows cannot be shown."
        folder = context.base_folder(entry.name)
        base = train_specs.apply_recipe(entry, folder, job_recipes.of_job(job))
        file = files.get(context, job.resource_id, job.training_file)
        return shown_rows.rows_of_lines(context, file, Rules(job.method, base, folder), numbers), None
    except LuthierError as error:
        return {}, f"The rows cannot be shown: {error.message}"
