"""The list of deployments and the page of one: state, engine, parity, limit, traffic, code to call it."""

from dataclasses import dataclass

from starlette.responses import Response

from luthier.core.engine_ports import EngineState
from luthier.core.errors import NotFound
from luthier.core.models import Deployment
from luthier.core.roles import Action
from luthier.portal.views.models import call_samples, deployment_rows
from luthier.portal.views.models.deployment_rows import DeploymentRow
from luthier.portal.web import addresses
from luthier.portal.web.page import Page, get
from luthier.portal.web.visit import Visit
from luthier.service.models import deployment_expiry, deployments, models

PAGE_ROWS = 50


@dataclass(frozen=True, slots=True)
class _Served:
    """What serves a deployment's model, and what kind of model that is."""

    engine: EngineState | None
    embeds: bool
    is_tuned: bool


def show(visit: Visit) -> Response:
    """The page; its table alone for the script that polls it."""
    return visit.render("deployments.html", **_values(visit))


def show_rows(visit: Visit) -> Response:
    """The table alone. What an engine has loaded changes without the database, so there is no 304."""
    return visit.render("deployments_rows.html", **_values(visit))


def show_one(visit: Visit) -> Response:
    """The page of one deployment, with code to call it."""
    deployment = _get(visit)
    url = visit.request.url
    address = f"{url.scheme}://{url.netloc}{addresses.api(visit.request)}"
    samples = call_samples.samples(address, deployment.name, _served(visit, deployment).embeds)
    return visit.render("deployment.html", one=_row(visit, deployment), samples=samples)


def show_live(visit: Visit) -> Response:
    """The part of that page that changes."""
    return visit.render("deployment_live.html", one=_row(visit, _get(visit)))


def _get(visit: Visit) -> Deployment:
    """The deployment of the path. Raises NotFound in the words of a page."""
    try:
        return deployments.get(visit.context, visit.resource_id, visit.path_value("name"))
    except NotFound as error:
        raise NotFound("deployment_not_found", "There is no such deployment. It may have been deleted.") from error


def _values(visit: Visit) -> dict[str, object]:
    """What both templates of the list need."""
    word, after = visit.query("q"), visit.query("after")
    every = deployments.list_all(visit.context, visit.resource_id)
    wanted = [one for one in every if word.lower() in f"{one.name} {one.model}".lower() and one.name > after]
    shown = wanted[:PAGE_ROWS]
    return {
        "rows": [_row(visit, one) for one in shown],
        "word": word,
        "after": after,
        "next": shown[-1].name if len(wanted) > PAGE_ROWS else "",
    }


def _row(visit: Visit, deployment: Deployment) -> DeploymentRow:
    served, services = _served(visit, deployment), visit.services
    return deployment_rows.row(
        deployment,
        served.engine,
        served.embeds,
        services.rate_limits.limit_of(deployment),
        services.traffic.of(deployment),
        deployment_expiry.expires_at(deployment, served.is_tuned, services.lifetimes),
    )


def _served(visit: Visit, deployment: Deployment) -> _Served:
    """As GET /luthier/engines: loads nothing. A model that is gone has no engine."""
    try:
        named = models.get(visit.context, visit.resource_id, deployment.served_model or deployment.model)
    except NotFound:
        return _Served(None, embeds=False, is_tuned=True)
    engine = None if deployment.served_model is None else visit.services.serving.state(named)
    return _Served(engine, named.base.embeds, named.checkpoint is not None)


PAGES: tuple[Page, ...] = (
    get("/deployments", Action.DEPLOYMENTS_READ, show),
    get("/deployments/rows", Action.DEPLOYMENTS_READ, show_rows),
    get("/deployments/{name}", Action.DEPLOYMENTS_READ, show_one),
    get("/deployments/{name}/live", Action.DEPLOYMENTS_READ, show_live),
)
