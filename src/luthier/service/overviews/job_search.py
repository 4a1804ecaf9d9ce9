"""The search among a resource's jobs, with what a list for people shows beside them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from luthier.core.models import Event, Job
from luthier.core.states import JobStatus
from luthier.service.context import Context
from luthier.store.queries.portal import job_search


@dataclass(frozen=True, slots=True)
class FoundJobs:
    """One page of jobs, newest first. `names` are the filenames of their files by id, `counts` those of all jobs."""

    jobs: list[Job]
    has_more: bool
    counts: Mapping[JobStatus, int]
    names: Mapping[str, str]


def search(
    context: Context, resource_id: str, statuses: Collection[JobStatus], word: str, after: str | None, limit: int
) -> FoundJobs:
    """The jobs in one of `statuses` (none: in any) that contain `word`, after the id `after`.

    Raises InvalidRequest for an `after` that is no job of the resource.
    """
    with context.database.reading() as tx:
        jobs, has_more = job_search.search(tx, resource_id, statuses, word, after, limit)
        counts = job_search.count_by_status(tx, resource_id)
        ids = {id for job in jobs for id in (job.training_file, job.validation_file) if id is not None}
        names = job_search.file_names(tx, resource_id, ids)
    return FoundJobs(jobs, has_more, counts, names)


def names_of(context: Context, resource_id: str, job: Job) -> Mapping[str, str]:
    """The filenames of a job's files by id; a deleted file has no entry."""
    ids = {id for id in (job.training_file, job.validation_file) if id is not None}
    with context.database.reading() as tx:
        return job_search.file_names(tx, resource_id, ids)


def newest_messages(context: Context, job_id: str, limit: int) -> list[Event]:
    """The newest messages of a job that the caller may read, newest first; the steps' figures are left out."""
    with context.database.reading() as tx:
        return job_search.message_page(tx, job_id, None, limit)[0]


def message_page(context: Context, job_id: str, after: str | None, limit: int) -> tuple[list[Event], bool]:
    """A page of a job's messages after the id `after`, newest first, and whether more follow.

    Raises InvalidRequest for an `after` that is no event of the job.
    """
    with context.database.reading() as tx:
        return job_search.message_page(tx, job_id, after, limit)
