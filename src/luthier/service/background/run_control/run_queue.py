"""The waiting jobs that start now: what the executor has room for, placed by `core.training.placement`."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime

from luthier.core import quotas
from luthier.core.quotas import Quota
from luthier.core.states import EventCode, JobStatus
from luthier.core.training import placement
from luthier.core.training.placement import Placement, Rooms, WaitingJob, WaitingResource
from luthier.service.background.run_control.run_needs import NeedsOfJobs
from luthier.service.context import Context
from luthier.service.jobs import job_events
from luthier.store.queries import events, jobs
from luthier.store.queries import quotas as quota_rows
from luthier.store.queries.scheduling import queued_jobs
from luthier.store.queries.scheduling.queued_jobs import QueuedJob

READ_AT_ONCE = 8
"""Waiting jobs of a resource that are read together; more only if all of them are started, or fit no node."""
LOOKED_AT = 64
"""How many of a resource's oldest waiting jobs a tick looks at."""


def has_waiting(context: Context) -> bool:
    """Whether any job waits for a node: one row, by an index."""
    with context.database.reading() as tx:
        return jobs.first_in(tx, JobStatus.QUEUED) is not None


def place_waiting(
    context: Context, needs: NeedsOfJobs, running: Counter[str], rooms: Rooms, now: datetime, most: int
) -> Placement:
    """Places waiting jobs, at most `most`; `running` counts the jobs that have a place now, by resource."""
    with context.database.reading() as tx:
        heads = queued_jobs.list_heads(tx)
        limits = quota_rows.own_limits(tx, Quota.RUNNING_JOBS)
    resources = [
        WaitingResource(
            head.resource_id,
            running[head.resource_id],
            _limit(limits, head.resource_id),
            max(head.created_at, head.last_start_at or head.created_at).timestamp(),
            head.job.seq,
        )
        for head in heads
    ]
    first = {head.resource_id: head.job for head in heads}

    def queue_of(one: WaitingResource) -> Iterator[WaitingJob]:
        return _queue(context, needs, one.resource_id, first[one.resource_id])

    return placement.place(resources, queue_of, rooms, now.timestamp(), most)


def tell_unholdable(context: Context, job: WaitingJob) -> None:
    """Tells a job's user, once, that no node could hold it even empty; it waits all the same, for a node may come."""
    with context.database.writing() as tx:
        if events.data_of_first(tx, job.job_id, EventCode.NO_NODE) is None:
            values: dict[str, object] = {
                "cpus": job.needs.cpus,
                "gpus": job.needs.gpus,
                "memory_bytes": job.needs.memory_bytes,
                "labels": dict(job.needs.labels),
            }
            events.insert_events(tx, [job_events.message(context, job.job_id, EventCode.NO_NODE, values)])


def _limit(limits: Mapping[str, int], resource_id: str) -> int:
    """How many jobs of the resource may run at once."""
    own = limits.get(resource_id)
    return quotas.default(resource_id, Quota.RUNNING_JOBS) if own is None else own


def _queue(context: Context, needs: NeedsOfJobs, resource_id: str, first: QueuedJob) -> Iterator[WaitingJob]:
    """The resource's waiting jobs in the order of their creation from the first, read as far as they are taken."""
    read = [first]
    for _ in range(LOOKED_AT // READ_AT_ONCE):
        for job in read:
            yield WaitingJob(job.id, needs.by_estimate(job.base_model, job.peak_memory_bytes))
        with context.database.reading() as tx:
            read = queued_jobs.list_after(tx, resource_id, read[-1].seq, READ_AT_ONCE)
        if not read:
            return
