"""The search among a resource's files, and one file with the jobs that use it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from luthier.core.errors import Conflict
from luthier.core.models import File, Job
from luthier.core.states import FilePurpose, JobStatus
from luthier.service.context import Context
from luthier.service.files import files
from luthier.store.queries import files as file_rows
from luthier.store.queries.portal import file_search

MAX_JOBS = 20
"""So many of the jobs of one file are read."""
_NOT_STARTED = (JobStatus.VALIDATING_FILES, JobStatus.QUEUED)


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """One page of files, newest first. `n_jobs` has the number of jobs of each file, by id; without an entry: none."""

    files: list[File]
    has_more: bool
    counts: Mapping[FilePurpose, int]
    n_jobs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class UsedFile:
    """A file, how many jobs use it, and the newest of these."""

    file: File
    n_jobs: int
    jobs: list[Job]

    @property
    def why_kept(self) -> str:
        """Why it is not deleted now, as a sentence; empty if it can be."""
        waiting = [job for job in self.jobs if job.status in _NOT_STARTED and self.file.id != job.result_file]
        if not waiting:
            return ""
        return f"Job {waiting[0].id} waits to read it. Cancel that job first, or wait until it has started."


def search(
    context: Context, resource_id: str, purposes: Collection[FilePurpose], word: str, after: str | None, limit: int
) -> FoundFiles:
    """The files of one of `purposes` (none: of any) that have `word` in name or id, after the id `after`.

    Raises InvalidRequest for an `after` that is no file of the resource.
    """
    now = context.now()
    with context.database.reading() as tx:
        found, has_more = file_search.search(tx, resource_id, purposes, word, after, limit, now)
        counts = file_search.count_by_purpose(tx, resource_id, now)
        n_jobs = file_search.count_jobs(tx, resource_id, [file.id for file in found])
    return FoundFiles(found, has_more, counts, n_jobs)


def get_used(context: Context, resource_id: str, file_id: str) -> UsedFile:
    """One file with its jobs. Raises NotFound."""
    with context.database.reading() as tx:
        file = file_rows.get(tx, resource_id, file_id, context.now())
        if file is None:
            raise files.not_found(file_id)
        n_jobs = file_search.count_jobs(tx, resource_id, [file_id]).get(file_id, 0)
        return UsedFile(file, n_jobs, file_search.jobs_of_file(tx, resource_id, file_id, MAX_JOBS))


def delete_unused(context: Context, resource_id: str, file_id: str) -> None:
    """Deletes a file that no waiting job will read. Raises NotFound, and Conflict with the job that waits for it."""
    used = get_used(context, resource_id, file_id)
    if used.why_kept:
        raise Conflict("file_in_use", f"{used.file.filename} is not deleted. {used.why_kept}")
    files.delete(context, resource_id, file_id)
