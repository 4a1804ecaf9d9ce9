"""What the buttons of a model's exports do: make one, delete one."""

from starlette.responses import Response

from luthier.core.errors import InvalidRequest
from luthier.core.exports import ExportDtype, ExportFormat
from luthier.core.roles import Action
from luthier.portal.views.models import lineage_steps
from luthier.portal.web.page import Page, post
from luthier.portal.web.visit import Visit
from luthier.service.exports import exports


def create(visit: Visit) -> Response:
    """An export in the form's format is queued; the field has `FORMAT DTYPE`. The same again is the same export."""
    name = visit.path_value("name")
    format_name, _, dtype_name = visit.field("form").partition(" ")
    try:
        form, dtype = ExportFormat(format_name), ExportDtype(dtype_name)
    except ValueError as error:
        text = "Choose a format and a number type from the list."
        raise InvalidRequest("invalid_export_form", text, "form") from error
    exports.create(visit.context, visit.resource_id, name, form, dtype)
    return visit.redirect(lineage_steps.model_path(name), notice="export_created")


def delete(visit: Visit) -> Response:
    """The export is ended or deleted with its files; the model stays."""
    export = exports.get(visit.context, visit.resource_id, visit.path_value("export_id"))
    exports.delete(visit.context, visit.resource_id, export.id)
    return visit.redirect(lineage_steps.model_path(export.model), notice="export_deleted")


PAGES: tuple[Page, ...] = (
    post("/models/{name:path}/exports", Action.MODELS_WRITE, create),
    post("/exports/{export_id}/delete", Action.MODELS_WRITE, delete),
)
