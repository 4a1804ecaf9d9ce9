"""Quotas of a resource: admission, usage, and limits that the operator sets.

`admit_*` is called in the transaction that inserts, which holds the write lock: two callers cannot both get the last
unit.
"""

from collections.abc import Mapping

from luthier.core.errors import InvalidRequest, QuotaExceeded
from luthier.core.models import QuotaUsage
from luthier.core.quotas import MAX_LIMIT, TITLES, Quota
from luthier.service.context import Context
from luthier.store.db import Connection
from luthier.store.queries import quotas

_REMEDIES = {
    Quota.FILES: "Delete files that no job needs any more (result files count too)",
    Quota.FILE_BYTES: "Delete files that no job needs any more (result files count too)",
    Quota.JOBS: "Delete ended jobs",
    Quota.QUEUED_JOBS: "Wait until a queued job has started, or cancel one",
    Quota.RUNNING_JOBS: "Wait until a running job has ended, or pause or cancel one",
    Quota.DEPLOYMENTS: "Delete a deployment; its model stays",
    Quota.FINE_TUNED_DEPLOYMENTS: "Delete a deployment of a fine-tuned model; the model stays",
    Quota.JOB_TOKENS: "Train on fewer rows or for fewer epochs",
}


def admit_file(tx: Connection, resource_id: str, length: int) -> None:
    """Raises QuotaExceeded if a file of `length` bytes exceeds the number of files or their total size."""
    _admit(tx, resource_id, Quota.FILES, 1)
    _admit(tx, resource_id, Quota.FILE_BYTES, length)


def admit_bytes(tx: Connection, resource_id: str, length: int) -> None:
    """Raises QuotaExceeded if `length` more bytes of a file that is already counted exceed the total size."""
    _admit(tx, resource_id, Quota.FILE_BYTES, length)


def admit_job(tx: Connection, resource_id: str) -> None:
    """Raises QuotaExceeded if one more job exceeds the number of jobs or of those that wait."""
    _admit(tx, resource_id, Quota.JOBS, 1)
    _admit(tx, resource_id, Quota.QUEUED_JOBS, 1)


def admit_deployment(tx: Connection, resource_id: str, *, is_new: bool, is_newly_tuned: bool) -> None:
    """Raises QuotaExceeded if the deployment exceeds the number of deployments or of those of fine-tuned models.

    `is_newly_tuned`: a fine-tuned model under a name that was new or had a base model before.
    """
    if is_new:
        _admit(tx, resource_id, Quota.DEPLOYMENTS, 1)
    if is_newly_tuned:
        _admit(tx, resource_id, Quota.FINE_TUNED_DEPLOYMENTS, 1)


def check_job_tokens(tx: Connection, resource_id: str, tokens: int) -> None:
    """Raises QuotaExceeded if one job would train on more tokens, in all epochs together, than allowed."""
    limit = quotas.limit(tx, resource_id, Quota.JOB_TOKENS)
    if tokens > limit:
        raise _exceeded(Quota.JOB_TOKENS, f"this job has {tokens:,} tokens x epochs", limit)


def usages(context: Context, resource_id: str) -> list[QuotaUsage]:
    """Every quota of a resource, with its limit and its use; the use is None where each job is limited by itself."""
    with context.database.reading() as tx:
        return [
            QuotaUsage(
                quota,
                quotas.current(tx, resource_id, quota) if quota.is_counted else None,
                quotas.limit(tx, resource_id, quota),
            )
            for quota in Quota
        ]


def set_limits(context: Context, resource_id: str, limits: Mapping[Quota, int | None]) -> None:
    """Sets all of the limits, None for the default, in one transaction. What exists already is kept, even above them.

    Raises InvalidRequest, and sets none, if one of them is out of range.
    """
    for quota, value in limits.items():
        if value is not None and not 0 <= value <= MAX_LIMIT:
            raise InvalidRequest("invalid_quota", f"The quota {quota} must be from 0 to {MAX_LIMIT}.", quota)
    with context.database.writing() as tx:
        for quota, value in limits.items():
            quotas.set_limit(tx, resource_id, quota, value)


def _admit(tx: Connection, resource_id: str, quota: Quota, more: int) -> None:
    """Raises QuotaExceeded if `more` units do not fit into the quota; reads only, the caller inserts."""
    limit = quotas.limit(tx, resource_id, quota)
    used = quotas.current(tx, resource_id, quota)
    if more > limit > 0 and quota is Quota.FILE_BYTES:
        raise _exceeded(quota, f"this file has {more:,}", limit, "Split it into smaller files")
    if used + more > limit:
        raise _exceeded(quota, f"{used:,} are used" + (f" and {more:,} more are requested" if more > 1 else ""), limit)


def _exceeded(quota: Quota, state: str, limit: int, remedy: str | None = None) -> QuotaExceeded:
    """The error: `state` says what exceeds the limit, `remedy` what the caller can do, None for the usual remedy."""
    return QuotaExceeded(
        f"{quota}_quota_exceeded",
        f"Quota exceeded: {TITLES[quota]} ({quota}): {state}, the limit of this resource is {limit:,}. "
        f"{remedy or _REMEDIES[quota]}, or have the operator raise it: "
        f"luthier resources quota NAME --set {quota}=LIMIT.",
    )
