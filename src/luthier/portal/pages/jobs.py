"""The list of jobs: live states, filter by state, search, pages."""

from urllib.parse import urlencode

from starlette.responses import Response

from luthier.core.roles import Action
from luthier.core.states import JobStatus
from luthier.portal.views import job_rows
from luthier.portal.web.page import Page, get
from luthier.portal.web.visit import Visit
from luthier.service.overviews import job_search

PAGE_ROWS = 50
GROUPS: dict[str, tuple[JobStatus, ...]] = {
    "open": (
        JobStatus.VALIDATING_FILES,
        JobStatus.QUEUED,
        JobStatus.RUNNING,
        JobStatus.PAUSING,
        JobStatus.PAUSED,
    ),
    "succeeded": (JobStatus.SUCCEEDED,),
    "failed": (JobStatus.FAILED,),
    "cancelled": (JobStatus.CANCELLED,),
}
"""The filters by state, by the word in the URL."""


def show(visit: Visit) -> Response:
    """The page; its table alone for the script that polls it."""
    return visit.render("jobs.html", **_values(visit))


def show_rows(visit: Visit) -> Response:
    """The table alone, for the script that polls it."""
    return visit.live("jobs_rows.html", lambda: _values(visit))


def _values(visit: Visit) -> dict[str, object]:
    """What both templates need."""
    group, word, after = visit.query("status"), visit.query("q"), visit.query("after")
    found = job_search.search(visit.context, visit.resource_id, GROUPS.get(group, ()), word, after or None, PAGE_ROWS)
    query = {name: value for name, value in (("status", group), ("q", word)) if value}
    return {
        "rows": [job_rows.row(job, found.names, visit.context.now()) for job in found.jobs],
        "counts": job_rows.group_counts(found.counts, GROUPS),
        "group": group if group in GROUPS else "",
        "word": word,
        "after": after,
        "is_filtered": bool(query),
        "first_url": f"?{urlencode(query)}" if after else "",
        "next_url": f"?{urlencode(query | {'after': found.jobs[-1].id})}" if found.has_more else "",
        "rows_url": f"jobs/rows?{urlencode(query | ({'after': after} if after else {}))}",
    }


PAGES: tuple[Page, ...] = (
    get("/jobs", Action.JOBS_READ, show),
    get("/jobs/rows", Action.JOBS_READ, show_rows),
)
