"""Queries on quotas: the limits that an operator has set, and how much of each a resource uses. Nothing is refused
here: `service/tenants/quotas.py` compares.
"""

from sqlalchemy import Connection, func, insert, select, union

from luthier.core import quotas as defaults
from luthier.core.quotas import Quota
from luthier.core.states import JobStatus
from luthier.store import schema
from luthier.store.queries import copies, permissions

_quotas = schema.quotas
_WAITING = [JobStatus.VALIDATING_FILES, JobStatus.QUEUED]
_RUNNING = [JobStatus.RUNNING, JobStatus.PAUSING]


def limit(tx: Connection, resource_id: str, quota: Quota) -> int:
    """The limit of the resource: its own if the operator has set one, else the default."""
    statement = select(_quotas.c.limit).where(_quotas.c.resource_id == resource_id, _quotas.c.name == quota)
    own = tx.execute(statement).scalar()
    return defaults.default(resource_id, quota) if own is None else own


def own_limits(tx: Connection, quota: Quota) -> dict[str, int]:
    """The limits of one quota that an operator has set, by resource; all others have the default."""
    statement = select(_quotas.c.resource_id, _quotas.c.limit).where(_quotas.c.name == quota)
    return {row.resource_id: row.limit for row in tx.execute(statement)}


def set_limit(tx: Connection, resource_id: str, quota: Quota, value: int | None) -> None:
    """Sets a limit; None restores the default. Needs a transaction of `Database.writing`."""
    tx.execute(_quotas.delete().where(_quotas.c.resource_id == resource_id, _quotas.c.name == quota))
    if value is not None:
        tx.execute(insert(_quotas).values(resource_id=resource_id, name=quota, limit=value))


def current(tx: Connection, resource_id: str, quota: Quota) -> int:
    """How much of a counted quota the resource uses now: rows, or bytes for FILE_BYTES, parts of pending uploads
    included.

    Raises ValueError for JOB_TOKENS, a limit on each job that nothing accumulates: an internal fault.
    """
    files, jobs, deployments = schema.files.c, schema.jobs.c, schema.deployments.c
    checkpoints, held_copies = schema.checkpoints.c, schema.checkpoint_copies.c
    usable = (checkpoints.resource_id == resource_id) | checkpoints.id.in_(
        permissions.checkpoints_shared_with(resource_id)
    )
    tuned = union(select(checkpoints.model).where(usable), select(held_copies.model).where(copies.held_by(resource_id)))
    match quota:
        case Quota.FILES:
            statement = select(func.count()).where(files.resource_id == resource_id)
        case Quota.FILE_BYTES:
            parts, uploads = schema.upload_parts, schema.uploads
            stored = select(func.coalesce(func.sum(files.bytes), 0)).where(files.resource_id == resource_id)
            # A part's row is deleted when its upload is completed, cancelled or expired: existing ones are pending.
            pending = select(func.coalesce(func.sum(parts.c.bytes), 0)).select_from(
                parts.join(uploads, parts.c.upload_id == uploads.c.id)
            )
            own_pending = pending.where(uploads.c.resource_id == resource_id)
            statement = select(stored.scalar_subquery() + own_pending.scalar_subquery())
        case Quota.JOBS:
            statement = select(func.count()).where(jobs.resource_id == resource_id, jobs.is_deleted.is_(False))
        case Quota.QUEUED_JOBS:
            statement = select(func.count()).where(jobs.resource_id == resource_id, jobs.status.in_(_WAITING))
        case Quota.RUNNING_JOBS:
            statement = select(func.count()).where(jobs.resource_id == resource_id, jobs.status.in_(_RUNNING))
        case Quota.DEPLOYMENTS:
            statement = select(func.count()).where(deployments.resource_id == resource_id)
        case Quota.FINE_TUNED_DEPLOYMENTS:
            own = deployments.resource_id == resource_id
            statement = select(func.count()).where(own, deployments.model.in_(tuned))
        case Quota.JOB_TOKENS:
            raise ValueError(quota)
    return int(tx.execute(statement).scalar_one())
