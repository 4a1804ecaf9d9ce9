"""Quotas as bars with their text."""

from dataclasses import dataclass

from luthier.core.models import QuotaUsage
from luthier.core.quotas import TITLES, Quota
from luthier.portal.web import rendering

_NEAR = 0.9
"""From this share of its limit on a quota is called nearly used up."""


@dataclass(frozen=True, slots=True)
class QuotaBar:
    """One quota: `text` says use and limit in words, `note` whether little is left; without a bar `used` is None."""

    id: str
    title: str
    text: str
    used: int | None
    limit: int
    note: str


def bar(usage: QuotaUsage) -> QuotaBar:
    """The bar of a quota; a limit on each job by itself has none."""
    words = rendering.size if usage.quota is Quota.FILE_BYTES else rendering.count
    limit = words(usage.limit)
    if usage.current is None:
        return QuotaBar(usage.quota, TITLES[usage.quota], f"at most {limit} in each job", None, usage.limit, "")
    note = ""
    if usage.current >= usage.limit:
        note = "used up"
    elif usage.current >= _NEAR * usage.limit:
        note = "nearly used up"
    return QuotaBar(
        usage.quota, TITLES[usage.quota], f"{words(usage.current)} of {limit}", usage.current, usage.limit, note
    )
