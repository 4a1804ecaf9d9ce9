"""Exports of tuned models as their owner sees them: create, get, list, delete."""

import hashlib
import logging
from dataclasses import replace

from luthier import model_folder
from luthier.core import ids
from luthier.core.errors import Conflict, Forbidden, InvalidRequest, NotFound, QuotaExceeded
from luthier.core.exports import (
    DTYPES,
    OF_ADAPTERS,
    Export,
    ExportDtype,
    ExportFile,
    ExportFormat,
    ExportStatus,
)
from luthier.core.models import Checkpoint
from luthier.service.context import Context
from luthier.service.exports import export_records
from luthier.service.models import models
from luthier.store.queries import deployments

logger = logging.getLogger(__name__)

MAX_EXPORTS = 16
"""Of one resource, failed ones left out: they have the size of their models, and no quota counts their bytes. The
resource that every installation has is limited by the disk alone."""


def create(
    context: Context, resource_id: str, name: str, format: ExportFormat, dtype: ExportDtype | None = None
) -> Export:
    """The export of a model or of a deployment's model; a new one is queued, and one that failed is queued again.

    The same model, format and dtype (None: the format's default) are the same export. Raises NotFound, InvalidRequest
    for a base model or for what the format cannot hold, Forbidden for a model that is only shared, QuotaExceeded.
    """
    checkpoint = _own_checkpoint(context, resource_id, name)
    dtype = dtype or DTYPES[format][0]
    _check_form(checkpoint, name, format, dtype)
    export_id = _id(resource_id, checkpoint, format, dtype)
    with context.exports_lock:
        known = export_records.read(context, export_id)
        if known is not None and known.status is not ExportStatus.FAILED:
            return known
        _admit(context, resource_id)
        export = Export(
            export_id,
            resource_id,
            checkpoint.model,
            checkpoint.id,
            format,
            dtype,
            ExportStatus.QUEUED,
            context.now(),
        )
        export_records.write(context, export)
    logger.info("export created id=%s checkpoint=%s resource=%s", export_id, checkpoint.id, resource_id)
    return export


def get(context: Context, resource_id: str, export_id: str) -> Export:
    """An export of the resource. Raises NotFound, for another's as well, and for one whose time is over."""
    export = next((one for one in list_all(context, resource_id) if one.id == export_id), None)
    if export is None:
        raise NotFound("export_not_found", "There is no such export here. GET /luthier/exports lists them.")
    return export


def list_all(context: Context, resource_id: str) -> list[Export]:
    """The resource's exports, newest first, without those whose time is over."""
    now = context.now()
    own = (export for export in export_records.read_all(context) if export.resource_id == resource_id)
    return [one for one in own if one.expires_at is None or one.expires_at > now][::-1]


def get_succeeded(context: Context, resource_id: str, export_id: str) -> Export:
    """An export that has files. Raises NotFound, and Conflict for one that is not finished or has failed."""
    export = get(context, resource_id, export_id)
    if export.result is None:
        reason = export.error.message if export.error else "Ask again when its status is succeeded."
        raise Conflict("export_not_finished", f"This export is {export.status} and has no files. {reason}")
    return export


def file_of(export: Export, name: str) -> ExportFile:
    """A file of a succeeded export by its name. Raises NotFound, which names those that it has."""
    assert export.result is not None
    for file in export.result.files:
        if file.name == name:
            return file
    known = ", ".join(file.name for file in export.result.files)
    raise NotFound("export_file_not_found", f"The export has no such file. It has: {known}.")


def delete(context: Context, resource_id: str, export_id: str) -> None:
    """Ends an export in whatever state, and deletes its files. Raises NotFound."""
    with context.exports_lock:
        export = get(context, resource_id, export_id)
        export_records.remove(context, export.id)
    logger.info("export deleted id=%s resource=%s", export.id, resource_id)


def move(context: Context, export: Export, **changes: object) -> Export | None:
    """Writes the export with these changes, for the worker; None, and nothing written, if it was deleted meanwhile, or
    begun again by the next supervisor. The number of attempts is the fencing token: no lease guards a file.
    """
    with context.exports_lock:
        known = export_records.read(context, export.id)
        if known is None or not is_same_attempt(known, export):
            return None
        moved: Export = replace(known, **changes)  # type: ignore[arg-type]
        export_records.write(context, moved)
        return moved


def is_same_attempt(known: Export, export: Export) -> bool:
    """Whether nobody has moved the export since."""
    same = (export.created_at, export.attempts, export.status)
    return (known.created_at, known.attempts, known.status) == same


def _admit(context: Context, resource_id: str) -> None:
    """Raises QuotaExceeded if one more export is too many for the resource."""
    held = [one for one in list_all(context, resource_id) if one.status is not ExportStatus.FAILED]
    if resource_id != ids.DEFAULT_RESOURCE and len(held) >= MAX_EXPORTS:
        text = f"This resource has {len(held)} exports, as many as it may. DELETE /luthier/exports/ID ends one."
        raise QuotaExceeded("exports_quota_exceeded", text)


def _own_checkpoint(context: Context, resource_id: str, name: str) -> Checkpoint:
    """The checkpoint that a model's or deployment's name means, if its weights are the resource's to take.

    Raises NotFound, InvalidRequest for a base model, Forbidden for one that is only shared.
    """
    with context.database.reading() as tx:
        deployment = deployments.get(tx, resource_id, name)
        model = models.resolve(context, tx, resource_id, deployment.model if deployment else name)
    if model is None:
        raise models.not_found(name, "model")
    if model.checkpoint is None:
        text = f"{name} is a base model: nothing of it was trained here. Its card names where its weights are."
        raise InvalidRequest("base_model_not_exportable", text, "model")
    if model.checkpoint.resource_id != resource_id:
        text = f"{name} is shared with this resource to be called; only the one that trained it can export it."
        raise Forbidden("model_not_own", text, "model")
    return model.checkpoint


def _check_form(checkpoint: Checkpoint, name: str, format: ExportFormat, dtype: ExportDtype) -> None:
    """Raises InvalidRequest for a format that the model has not, or a dtype that the format has not."""
    if dtype not in DTYPES[format]:
        allowed = ", ".join(DTYPES[format])
        raise InvalidRequest("dtype_not_for_format", f"The format {format} has no {dtype}: it has {allowed}.", "dtype")
    if format in OF_ADAPTERS and model_folder.ADAPTER_WEIGHTS not in checkpoint.files:
        text = f"All weights of {name} were tuned, so it has no adapter. Take merged, gguf or ollama."
        raise InvalidRequest("model_has_no_adapter", text, "format")


def _id(resource_id: str, checkpoint: Checkpoint, format: ExportFormat, dtype: ExportDtype) -> str:
    """The id of what is asked for: the same for the same."""
    identity = f"{resource_id} {checkpoint.id} {format} {dtype}"
    return f"export-{hashlib.sha256(identity.encode()).hexdigest()[:32]}"
