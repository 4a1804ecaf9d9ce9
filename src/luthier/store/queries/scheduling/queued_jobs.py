"""Queries on the queue: the resources that have waiting jobs, and one resource's waiting jobs in order.

Both are answered by the index of the queue: a tick reads an entry for each waiting job and rows only for those that may
start. Those that write need a transaction of `Database.writing`.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, select, update

from luthier.core.states import JobStatus
from luthier.store import row_mapping, schema

_jobs, _resources = schema.jobs, schema.resources


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """What is asked of a waiting job to find a node for it; `seq` is its place in the order of creation."""

    seq: int
    id: str
    base_model: str
    peak_memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class QueueHead:
    """A resource with waiting jobs: the oldest of them and its creation, and when a job of the resource last was
    started, None for never.
    """

    resource_id: str
    job: QueuedJob
    created_at: datetime
    last_start_at: datetime | None


_oldest = (
    select(_jobs.c.resource_id, func.min(_jobs.c.seq).label("seq"))
    .where(_jobs.c.status == str(JobStatus.QUEUED))
    .group_by(_jobs.c.resource_id)
    .subquery()
)
_asked = (_jobs.c.seq, _jobs.c.id, _jobs.c.base_model, _jobs.c.peak_memory_bytes)
_heads = row_mapping.Read(
    select(*_asked, _jobs.c.resource_id, _jobs.c.created_at, _resources.c.last_start_at)
    .select_from(_oldest)
    .join(_jobs, _jobs.c.seq == _oldest.c.seq)
    .join(_resources, _resources.c.id == _oldest.c.resource_id),
    lambda seq, id, model, memory, *rest: QueueHead(rest[0], QueuedJob(seq, id, model, memory), *rest[1:]),
)
_next = row_mapping.Read(
    select(*_asked)
    .where(
        _jobs.c.status == str(JobStatus.QUEUED),
        _jobs.c.resource_id == bindparam("resource_id"),
        _jobs.c.seq > bindparam("after_seq"),
    )
    .order_by(_jobs.c.seq)
    .limit(bindparam("row_limit", type_=_jobs.c.seq.type)),
    QueuedJob,
)


def list_heads(tx: Connection) -> list[QueueHead]:
    """Every resource with waiting jobs, in no order."""
    return _heads.all(tx)


def list_after(tx: Connection, resource_id: str, after_seq: int, limit: int) -> list[QueuedJob]:
    """The resource's next waiting jobs after a place in the order (0: from the first), oldest first."""
    return _next.all(tx, resource_id=resource_id, after_seq=after_seq, row_limit=limit)


def set_last_start(tx: Connection, resource_id: str, at: datetime) -> None:
    """Records that a job of the resource is being started: the others are before it now."""
    tx.execute(update(_resources).where(_resources.c.id == resource_id).values(last_start_at=at))
