"""Jobs side by side: what each learned from, with which settings, and how it ended."""

from dataclasses import dataclass

from luthier.core.errors import InvalidRequest
from luthier.core.models import Checkpoint, File, Job
from luthier.service.context import Context
from luthier.service.job_views import job_metrics
from luthier.service.jobs import jobs
from luthier.store.queries import checkpoints
from luthier.store.queries import files as file_rows

MAX_JOBS = 8
"""As many as colours that can be told apart."""


@dataclass(frozen=True, slots=True)
class ComparedJob:
    """One job with its files, None for one that is deleted, and its checkpoints, oldest first."""

    job: Job
    training_file: File | None
    validation_file: File | None
    checkpoints: tuple[Checkpoint, ...]

    @property
    def name(self) -> str:
        """What people call the job: its suffix, else its data; empty if the file is deleted."""
        return self.job.suffix or (self.training_file.filename if self.training_file else "")

    @property
    def best(self) -> Checkpoint | None:
        """The checkpoint with the lowest loss on the whole validation file; None without such losses."""
        return job_metrics.best_checkpoint(self.checkpoints)


def compare(context: Context, resource_id: str, job_ids: list[str]) -> list[ComparedJob]:
    """The jobs in the given order, each once. Raises NotFound for one, InvalidRequest for more than MAX_JOBS."""
    unique = list(dict.fromkeys(job_ids))
    if len(unique) > MAX_JOBS:
        text = f"{len(unique)} jobs were chosen; {MAX_JOBS} at most can be told apart in one chart. Choose fewer."
        raise InvalidRequest("too_many_jobs", text, "job")
    found = [jobs.get(context, resource_id, job_id) for job_id in unique]
    with context.database.reading() as tx:
        now = context.now()
        return [
            ComparedJob(
                job,
                file_rows.get(tx, resource_id, job.training_file, now),
                file_rows.get(tx, resource_id, job.validation_file, now) if job.validation_file else None,
                tuple(reversed(checkpoints.list_page(tx, job.id, None, 100)[0])),
            )
            for job in found
        ]
