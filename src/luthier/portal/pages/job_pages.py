"""A job's pages: overview with charts, events, settings, figures as a table."""

import json
from urllib.parse import urlencode

from starlette.responses import Response

from luthier.core.errors import LuthierError
from luthier.core.models import Job
from luthier.core.roles import Action
from luthier.core.states import TERMINAL_JOB_STATUSES
from luthier.portal.views import job_overview
from luthier.portal.web.page import Page, get, post
from luthier.portal.web.visit import Visit
from luthier.service.files import files
from luthier.service.job_views import hardest_rows, job_details, job_metrics
from luthier.service.job_views.job_metrics import MetricsQuery
from luthier.service.jobs import job_events, jobs
from luthier.service.models import deployments
from luthier.service.overviews import comparison, job_requests, job_search, row_preview

LATEST_EVENTS = 12
EVENTS_A_PAGE = 100
FIGURES_A_PAGE = 200
SHOWN_ROWS = 5
HARDEST_ROWS = 20


def show(visit: Visit) -> Response:
    """The overview: state, charts, checkpoints, newest events."""
    return visit.render("job.html", **_overview(visit))


def show_state(visit: Visit) -> Response:
    """State, progress and buttons alone, for the script that polls them."""
    return visit.live("job_state.html", lambda: _overview(visit))


def show_more(visit: Visit) -> Response:
    """Checkpoints and newest events alone, for the script that polls them."""
    return visit.live("job_more.html", lambda: _overview(visit))


def _overview(visit: Visit) -> dict[str, object]:
    """What both templates need."""
    details = job_details.read(visit.context, visit.caller, visit.path_value("job_id"))
    job = details.job
    (compared,) = comparison.compare(visit.context, visit.resource_id, [job.id])
    newest = job_search.newest_messages(visit.context, job.id, LATEST_EVENTS)
    return {
        "job": job,
        "name": compared.name or job.id,
        "details": details,
        "facts": job_overview.facts(details),
        "checkpoints": job_overview.checkpoint_rows(compared),
        "events": newest,
        "is_ended": job.status in TERMINAL_JOB_STATUSES,
        "may_change": visit.may(Action.JOBS_WRITE),
        "suggested_name": (job.suffix or "tuned").lower(),
    }


def show_events(visit: Visit) -> Response:
    """Every event, newest first; with all=1 the figures of the steps too."""
    job, name = _job(visit)
    after, with_figures = visit.query("after") or None, visit.query("all") == "1"
    if with_figures:
        page, has_more = jobs.list_events(visit.context, visit.resource_id, job.id, after, EVENTS_A_PAGE)
    else:
        page, has_more = job_search.message_page(visit.context, job.id, after, EVENTS_A_PAGE)
    query = {"all": "1"} if with_figures else {}
    return visit.render(
        "job_events.html",
        job=job,
        name=name,
        events=page,
        with_figures=with_figures,
        next_url=f"?{urlencode(query | {'after': page[-1].id})}" if has_more else "",
        first_url=f"?{urlencode(query)}" if after else "",
    )


def show_settings(visit: Visit) -> Response:
    """What was asked for, what each setting became and why, and each start of the trainer."""
    job, name = _job(visit)
    details = job_details.read(visit.context, visit.caller, job.id)
    newest_first, _ = jobs.list_attempts(visit.context, visit.resource_id, job.id, None, 100)
    return visit.render(
        "job_settings.html",
        job=job,
        name=name,
        details=details,
        request_json=json.dumps(job_requests.sent(details), indent=2, ensure_ascii=False),
        attempts=[
            {
                "number": one.number,
                "started_at": one.started_at,
                "ended_at": one.ended_at,
                "last_step": one.last_step,
                "outcome": job_events.outcome(one),
            }
            for one in newest_first
        ],
    )


def show_figures(visit: Visit) -> Response:
    """The figures of every step as a table, for whoever reads without script."""
    job, name = _job(visit)
    first = max(1, visit.query_number("from"))
    query = MetricsQuery(from_step=first, points=None)
    metrics = job_metrics.read(visit.context, visit.services.job_metrics, visit.resource_id, job.id, query)
    names, rows, next_step = job_overview.figure_rows(metrics, FIGURES_A_PAGE)
    return visit.render(
        "job_metrics.html",
        job=job,
        name=name,
        names=names,
        rows=rows,
        next_url=f"?from={next_step}" if next_step else "",
        first_url="?" if first > 1 else "",
    )


def show_data(visit: Visit) -> Response:
    """The rows learned least, and the first rows as the model sees them; each says why if it cannot be shown."""
    job, name = _job(visit)
    rows, reason = [], ""
    try:
        file = files.get(visit.context, visit.resource_id, job.training_file)
        rows = row_preview.rows(visit.context, file, job.base_model, job.method, limit=SHOWN_ROWS).rows
    except LuthierError as error:
        reason = error.message
    hardest = hardest_rows.read(visit.context, visit.resource_id, job.id, HARDEST_ROWS)
    return visit.render("job_data.html", job=job, name=name, hardest=hardest, rows=rows, rows_reason=reason)


def deploy(visit: Visit) -> Response:
    """Puts a checkpoint of the job behind a name; the deployments' page shows how that goes."""
    request = deployments.DeploymentRequest(
        name=visit.field("name"),
        model=visit.field("model"),
        model_version=None,
        sku_name="standard",
        sku_capacity=job_overview.CAPACITY,
    )
    deployments.put(visit.context, visit.resource_id, request)
    visit.services.wake()
    return visit.redirect("/deployments", notice="deployment_created")


def _job(visit: Visit) -> tuple[Job, str]:
    """The job of the path, and what people call it."""
    job = jobs.get(visit.context, visit.resource_id, visit.path_value("job_id"))
    names = job_search.names_of(visit.context, visit.resource_id, job)
    return job, job.suffix or names.get(job.training_file, job.id)


PAGES: tuple[Page, ...] = (
    get("/jobs/{job_id}", Action.JOBS_READ, show),
    get("/jobs/{job_id}/state", Action.JOBS_READ, show_state),
    get("/jobs/{job_id}/more", Action.JOBS_READ, show_more),
    get("/jobs/{job_id}/events", Action.JOBS_READ, show_events),
    get("/jobs/{job_id}/settings", Action.JOBS_READ, show_settings),
    get("/jobs/{job_id}/data", Action.FILES_READ, show_data),
    get("/jobs/{job_id}/metrics", Action.JOBS_READ, show_figures),
    post("/jobs/{job_id}/deploy", Action.DEPLOYMENTS_WRITE, deploy),
)
