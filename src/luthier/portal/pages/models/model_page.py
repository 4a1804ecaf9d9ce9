"""One model: its facts, its lineage as a picture and as a list, its exports; and its deletion."""

from collections.abc import Sequence

from starlette.responses import Response

from luthier import model_folder
from luthier.core import ids
from luthier.core.exports import DTYPES, OF_ADAPTERS, Export, ExportFormat, ExportStatus
from luthier.core.models import Checkpoint
from luthier.core.roles import Action
from luthier.portal.views.models import lineage_picture, lineage_steps, model_rows
from luthier.portal.web.page import Page, get, post
from luthier.portal.web.visit import Visit
from luthier.service.exports import exports
from luthier.service.models import models
from luthier.service.models.models import Model
from luthier.service.overviews import lineage

FORMATS = {
    ExportFormat.ADAPTER: "adapter: PEFT, for transformers and vLLM",
    ExportFormat.MERGED: "merged: all weights, for transformers",
    ExportFormat.GGUF: "gguf: all weights, for llama.cpp and LM Studio",
    ExportFormat.GGUF_ADAPTER: "gguf-adapter: for llama.cpp beside its base",
    ExportFormat.OLLAMA: "ollama: all weights with a Modelfile",
}
"""What each format is for, in words."""


def show(visit: Visit) -> Response:
    """The page of a base model, an alias of one, a fine-tuned model or a checkpoint."""
    model = models.get(visit.context, visit.resource_id, visit.path_value("name"))
    told = lineage.read(visit.context, visit.resource_id, model)
    if not (visit.may(Action.JOBS_READ) and visit.may(Action.FILES_READ)):
        told = lineage.without_jobs(told)
    steps = lineage_steps.arrange(told, model.canonical_name)
    values: dict[str, object] = {
        "model": model,
        "entry": None,
        "row": None,
        "why_kept": "",
        "is_own": False,
        "formats": {},
        "deployed": model_rows.serving(model.canonical_name, told.deployments),
        "steps": steps,
        "picture": lineage_picture.draw(steps),
        "has_lineage": bool(steps.steps),
    }
    if model.checkpoint is None:
        values["entry"] = model_rows.base_row(visit.context.catalog, model.base, visit.context.is_ready)
    else:
        own = told.chain[-1]
        jobs = {} if own.job is None else {own.job.id: own.job}
        values["row"] = model_rows.tuned_row(model.checkpoint, jobs, told.deployments)
        values["is_own"] = model.checkpoint.resource_id == visit.resource_id
        gone = [model.checkpoint] if _goes_alone(model.checkpoint) else own.models
        values["why_kept"] = model_rows.why_kept(model.canonical_name, gone, told.deployments)
        values["formats"] = _formats(model.checkpoint)
    return visit.render("model.html", **values, **_export_values(visit, model))


def show_exports(visit: Visit) -> Response:
    """The exports alone, for the script that polls them: their progress is no change of the database, so no 304."""
    model = models.get(visit.context, visit.resource_id, visit.path_value("name"))
    return visit.render("model_exports.html", model=model, **_export_values(visit, model))


def delete(visit: Visit) -> Response:
    """The model and its checkpoints are deleted, or the one checkpoint. Refused while a deployment uses any of them."""
    for checkpoint in models.delete(visit.context, visit.resource_id, visit.path_value("name")):
        visit.services.serving.discard(checkpoint)
    return visit.redirect("/models", notice="model_deleted")


def _goes_alone(checkpoint: Checkpoint) -> bool:
    """Whether its deletion takes no other checkpoint of its job along."""
    return ids.CHECKPOINT_MARK in checkpoint.model or checkpoint.copied_from is not None


def _formats(checkpoint: Checkpoint) -> dict[str, tuple[str, Sequence[str]]]:
    """The formats that the model can be exported in, with their words and dtypes, the default dtype first."""
    has_adapter = model_folder.ADAPTER_WEIGHTS in checkpoint.files
    return {
        str(form): (words, [str(dtype) for dtype in DTYPES[form]])
        for form, words in FORMATS.items()
        if has_adapter or form not in OF_ADAPTERS
    }


def _export_values(visit: Visit, model: Model) -> dict[str, object]:
    """The exports of a model, newest first, and whether one is still being made."""
    found: list[Export] = []
    if model.checkpoint is not None:
        every = exports.list_all(visit.context, visit.resource_id)
        found = [one for one in every if one.model == model.canonical_name]
    is_open = any(one.status in (ExportStatus.QUEUED, ExportStatus.RUNNING) for one in found)
    return {"exports": found, "is_open": is_open}


PAGES: tuple[Page, ...] = (
    post("/models/{name:path}/delete", Action.MODELS_WRITE, delete),
    get("/models/{name:path}/exports", Action.MODELS_READ, show_exports),
    get("/models/{name:path}", Action.MODELS_READ, show),
)
