"""Queries on quotas: the limits that an operator has set, and how much of each a resource uses."""

from sqlalchemy import Connection, func, insert, select, union

from luthier.core.quotas import DEFAULTS, Quota
from luthier.core.states import JobStatus
from luthier.store import permissions, schema

_quotas = schema.quotas
_WAITING = [JobStatus.VALIDATING_FILES, JobStatus.QUEUED]


def limit(tx: Connection, resource_id: str, quota: Quota) -> int:
    """What the resource may hold: its own limit, or the default."""
    statement = select(_quotas.c.limit).where(_quotas.c.resource_id == resource_id, _quotas.c.name == quota)
    own = tx.execute(statement).scalar()
    return DEFAULTS[quota] if own is None else own


def set_limit(tx: Connection, resource_id: str, quota: Quota, value: int | None) -> None:
    """Writes a limit; None puts the default back."""
    tx.execute(_quotas.delete().where(_quotas.c.resource_id == resource_id, _quotas.c.name == quota))
    if value is not None:
        tx.execute(insert(_quotas).values(resource_id=resource_id, name=quota, limit=value))


def current(tx: Connection, resource_id: str, quota: Quota) -> int:
    """How much of a counted quota the resource uses now."""
    files, jobs, deployments = schema.files.c, schema.jobs.c, schema.deployments.c
    checkpoints, copies = schema.checkpoints.c, schema.checkpoint_copies.c
    usable = (checkpoints.resource_id == resource_id) | checkpoints.id.in_(
        permissions.checkpoints_shared_with(resource_id)
    )
    had = copies.resource_id == resource_id
    tuned = union(select(checkpoints.model).where(usable), select(copies.model).where(had))
    match quota:
        case Quota.FILES:
            statement = select(func.count()).where(files.resource_id == resource_id)
        case Quota.FILE_BYTES:
            statement = select(func.coalesce(func.sum(files.bytes), 0)).where(files.resource_id == resource_id)
        case Quota.JOBS:
            statement = select(func.count()).where(jobs.resource_id == resource_id, jobs.is_deleted.is_(False))
        case Quota.QUEUED_JOBS:
            statement = select(func.count()).where(jobs.resource_id == resource_id, jobs.status.in_(_WAITING))
        case Quota.DEPLOYMENTS:
            statement = select(func.count()).where(deployments.resource_id == resource_id)
        case Quota.FINE_TUNED_DEPLOYMENTS:
            own = deployments.resource_id == resource_id
            statement = select(func.count()).where(own, deployments.model.in_(tuned))
        case Quota.JOB_TOKENS:
            raise ValueError(quota)
    return int(tx.execute(statement).scalar_one())
