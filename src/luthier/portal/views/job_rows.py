"""Jobs as rows of the list."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from luthier.core.models import Job
from luthier.core.states import TERMINAL_JOB_STATUSES, JobStatus


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job as the list shows it; times in seconds."""

    id: str
    name: str
    status: JobStatus
    model: str
    training_file: str
    created_at: datetime
    took_s: float | None
    left_s: float | None
    trained_tokens: int | None
    problem: str


def row(job: Job, names: Mapping[str, str], now: datetime) -> JobRow:
    """The row of a job; `names` are filenames by id. A job is called by its suffix, else by the data that it learns."""
    filename = names.get(job.training_file, job.training_file)
    ended = job.finished_at or (now if job.status not in TERMINAL_JOB_STATUSES else None)
    is_running = job.status is JobStatus.RUNNING and job.estimated_finish is not None
    return JobRow(
        id=job.id,
        name=job.suffix or filename,
        status=job.status,
        model=job.model,
        training_file=filename,
        created_at=job.created_at,
        took_s=(ended - job.started_at).total_seconds() if ended and job.started_at else None,
        left_s=(job.estimated_finish - now).total_seconds() if is_running and job.estimated_finish else None,
        trained_tokens=job.trained_tokens,
        problem=job.error.message.splitlines()[0] if job.error is not None and job.error.message else "",
    )


def group_counts(counts: Mapping[JobStatus, int], groups: Mapping[str, tuple[JobStatus, ...]]) -> dict[str, int]:
    """How many jobs each filter has; "" is all of them."""
    grouped = {name: sum(counts.get(status, 0) for status in statuses) for name, statuses in groups.items()}
    return {"": sum(counts.values()), **grouped}
