"""Deployments made, tried again and deleted."""

import re
from collections.abc import Mapping

from starlette.responses import Response

from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.roles import Action
from luthier.portal.views.models import deployment_rows, lineage_steps
from luthier.portal.web.page import Page, get, post
from luthier.portal.web.visit import Visit
from luthier.service.models import deployment_fields, deployments
from luthier.service.models.deployments import DeploymentRequest
from luthier.service.overviews import model_search

MOST_SUGGESTED = 100
_FIELDS = {"name": "name", "properties.model.name": "model", "sku.name": "sku", "sku.capacity": "capacity"}
"""Fields as the control plane names them, which the service's errors do, and as the form does."""
_SKUS = {
    "Standard": "Standard: stays until it is deleted",
    "GlobalStandard": "GlobalStandard: the same here",
    "ProvisionedManaged": "ProvisionedManaged: the same here",
    "Developer": "Developer: deleted after a day",
}


def ask(visit: Visit) -> Response:
    """The form of a new deployment, for the model of the URL."""
    model = visit.query("model")
    values = {"name": _suggested(visit, model), "model": model, "sku": "Standard", "capacity": "1"}
    return _form(visit, values, {})


def create(visit: Visit) -> Response:
    """The deployment is created and its model loaded and proven; what is wrong is shown at its field."""
    values = {name: visit.field(name) for name in ("name", "model", "sku", "capacity")}
    try:
        if any(one.name == values["name"] for one in deployments.list_all(visit.context, visit.resource_id)):
            text = f"There already is a deployment {values['name']}. Choose another name, or delete that one first."
            raise InvalidRequest("deployment_name_taken", text, "name")
        wanted = DeploymentRequest(
            values["name"], _given_model(values["model"]), None, values["sku"], _capacity(values["capacity"])
        )
        deployment, _ = deployments.put(visit.context, visit.resource_id, wanted)
    except LuthierError as error:
        field = _FIELDS.get(error.param or "", "form")
        return _form(visit, values, {field: error.message}, 400 if isinstance(error, InvalidRequest) else 409)
    visit.request.path_params["name"] = deployment.name  # what the audit line says was changed
    visit.services.wake()
    return visit.redirect(f"/deployments/{deployment.name}", notice="deployment_created")


def retry(visit: Visit) -> Response:
    """The deployment is created once more, with the same model."""
    old = deployments.get(visit.context, visit.resource_id, visit.path_value("name"))
    wanted = DeploymentRequest(
        old.name, old.model, old.model_version, old.sku_name, old.sku_capacity, model_source=old.model_source
    )
    deployments.put(visit.context, visit.resource_id, wanted)
    visit.services.wake()
    return visit.redirect(f"/deployments/{old.name}", notice="deployment_created")


def delete(visit: Visit) -> Response:
    """The deployment is deleted; its model is unloaded if no other serves it, and stays."""
    name = visit.path_value("name")
    if not deployments.delete(visit.context, visit.services.serving, visit.resource_id, name):
        raise deployments.not_found(name)
    return visit.redirect("/deployments", notice="deployment_deleted")


def _given_model(text: str) -> str:
    """The model of the form. Raises InvalidRequest without one."""
    if not text:
        raise InvalidRequest("missing_model", "Choose a model: a base model or one of yours.", "properties.model.name")
    return text


def _capacity(text: str) -> int:
    """The capacity of the form. Raises InvalidRequest for what is no number."""
    if not re.fullmatch(r"[0-9]{1,9}", text):
        most = deployment_fields.MAX_CAPACITY
        raise InvalidRequest("invalid_sku", f"The capacity is a whole number from 1 to {most:,}.", "sku.capacity")
    return int(text)


def _suggested(visit: Visit, model: str) -> str:
    """A name that is free, made of the model's; empty without a model."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", lineage_steps.short_name(model).rpartition(" · ")[2]).strip("-._")[:48]
    taken = {one.name for one in deployments.list_all(visit.context, visit.resource_id)}
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken) if stem else ""


def _form(visit: Visit, values: Mapping[str, str], problems: Mapping[str, str], status: int = 200) -> Response:
    """The form with these values, and what is wrong with them by field; "form" is for none of them."""
    unit = visit.services.rate_limits.unit
    answer = visit.render(
        "deployment_new.html",
        values=values,
        problems=problems,
        models=model_search.deployable(visit.context, visit.resource_id, MOST_SUGGESTED),
        skus=_SKUS if values["sku"] in _SKUS else {**_SKUS, values["sku"]: values["sku"]},
        unit=deployment_rows.limit_words(unit),
    )
    answer.status_code = status
    return answer


PAGES: tuple[Page, ...] = (
    get("/deployments/new", Action.DEPLOYMENTS_WRITE, ask),
    post("/deployments", Action.DEPLOYMENTS_WRITE, create),
    post("/deployments/{name}/retry", Action.DEPLOYMENTS_WRITE, retry),
    post("/deployments/{name}/delete", Action.DEPLOYMENTS_WRITE, delete),
)
