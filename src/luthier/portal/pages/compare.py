"""Jobs on one set of axes, and a table of what differs."""

from starlette.responses import Response

from luthier.core.errors import NotFound
from luthier.core.roles import Action
from luthier.portal.views import differences
from luthier.portal.web.page import Page, get
from luthier.portal.web.visit import Visit
from luthier.service.overviews import comparison, job_search

CHOICES = 100


def show(visit: Visit) -> Response:
    """The comparison of the jobs in the URL; one that is gone is left out, and said."""
    wanted = visit.query_list("job")
    compared, gone = [], []
    for job_id in dict.fromkeys(wanted):
        try:
            compared += comparison.compare(visit.context, visit.resource_id, [job_id])
        except NotFound:
            gone.append(job_id)
    shown = compared[: comparison.MAX_JOBS]
    ids = [one.job.id for one in shown]
    recent = job_search.search(visit.context, visit.resource_id, (), "", None, CHOICES)
    table = differences.rows(shown)
    shows_all = visit.query("all") == "1"
    return visit.render(
        "compare.html",
        compared=shown,
        names={
            one.job.id: one.job.suffix or (one.training_file.filename if one.training_file else "") for one in shown
        },
        ids=ids,
        gone=gone,
        left_out=len(compared) - len(shown),
        colors=differences.colors(ids),
        rows=table if shows_all else [row for row in table if row.differs],
        shows_all=shows_all,
        choices=[(job.id, job.suffix or recent.names.get(job.training_file, "")) for job in recent.jobs],
        max_jobs=comparison.MAX_JOBS,
    )


PAGES: tuple[Page, ...] = (get("/compare", Action.JOBS_READ, show),)
