"""The list of deployments and the page of one: state, engine, parity, limit, traffic, code to call it."""

from collections.abc import Sequence

from starlette.responses import Response

from luthier.core.errors import NotFound
from luthier.core.models import Deployment
from luthier.core.roles import Action
from luthier.portal.views.models import call_samples, deployment_rows
from luthier.portal.views.models.deployment_rows import DeploymentRow
from luthier.portal.web import addresses
from luthier.portal.web.page import Page, get
from luthier.portal.web.visit import Visit
from luthier.service.models import deployment_expiry, deployments
from luthier.service.overviews import named_models

PAGE_ROWS = 50


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
    [one] = _rows(visit, [deployment])
    return visit.render("deployment.html", one=one, samples=call_samples.samples(address, deployment.name, one.embeds))


def show_live(visit: Visit) -> Response:
    """The part of that page that changes."""
    return visit.render("deployment_live.html", one=_rows(visit, [_get(visit)])[0])


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
        "rows": _rows(visit, shown),
        "word": word,
        "after": after,
        "next": shown[-1].name if len(wanted) > PAGE_ROWS else "",
    }


def _rows(visit: Visit, shown: Sequence[Deployment]) -> list[DeploymentRow]:
    """The rows of deployments. As GET /luthier/engines it loads nothing; a model that is gone has no engine."""
    services = visit.services
    names = {one.name: one.served_model or one.model for one in shown}
    known = named_models.find(visit.context, visit.resource_id, names.values())
    rows = []
    for one in shown:
        model = known.get(names[one.name])
        answers = model is not None and one.served_model is not None
        is_tuned = model is None or model.checkpoint is not None
        rows.append(
            deployment_rows.row(
                one,
                services.serving.state(model) if model is not None and answers else None,
                model is not None and model.base.embeds,
                services.rate_limits.limit_of(one),
                services.traffic.of(one),
                deployment_expiry.expires_at(one, is_tuned, services.lifetimes),
            )
        )
    return rows


PAGES: tuple[Page, ...] = (
    get("/deployments", Action.DEPLOYMENTS_READ, show),
    get("/deployments/rows", Action.DEPLOYMENTS_READ, show_rows),
    get("/deployments/{name}", Action.DEPLOYMENTS_READ, show_one),
    get("/deployments/{name}/live", Action.DEPLOYMENTS_READ, show_live),
)
