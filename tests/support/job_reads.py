"""What a caller sees of a job, in short."""

from luthier.core.models import Attempt, Job
from luthier.service.context import Context
from luthier.service.jobs import jobs


def refreshed(context: Context, job: Job) -> Job:
    return jobs.get(context, job.resource_id, job.id)


def messages(context: Context, job: Job) -> list[str]:
    page, _ = jobs.list_events(context, job.resource_id, job.id, None, 100)
    return [event.message for event in reversed(page)]


def attempts(context: Context, job: Job) -> list[Attempt]:
    """Oldest first."""
    page, _ = jobs.list_attempts(context, job.resource_id, job.id, None, 100)
    return page[::-1]
