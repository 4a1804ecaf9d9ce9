"""/fine_tuning/jobs/{job}/checkpoints/{checkpoint}/copy: Azure's way of giving another resource a checkpoint."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from pydantic import BaseModel, ConfigDict, Field

from luthier.api import arm, auth
from luthier.api.dialects import Dialect, Shape
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest
from luthier.core.models import Checkpoint, CheckpointCopy, Principal, Resource
from luthier.service import copies

_PATH = "/fine_tuning/jobs/{job_id}/checkpoints/{checkpoint_id}/copy"
_HEADER = "aoai-copy-ft-checkpoints"


class CopyBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    destinationResourceId: str
    region: str = Field(min_length=1, max_length=128)


def add(router: APIRouter, dialect: Dialect, services: Services) -> None:
    if not dialect.copies_checkpoints:
        return
    context = services.context
    Caller = Annotated[Principal, Depends(auth.require_key(context))]
    preview = [Depends(_require_preview)]

    @router.post(_PATH, dependencies=preview)
    def copy_checkpoint(job_id: str, checkpoint_id: str, body: CopyBody, caller: Caller) -> dict[str, Any]:
        own = caller.resource.id
        copies.make(context, own, job_id, checkpoint_id, body.destinationResourceId, body.region)
        return _shape(*copies.list_of(context, own, job_id, checkpoint_id))

    @router.get(_PATH, dependencies=preview)
    def get_copies(job_id: str, checkpoint_id: str, caller: Caller) -> dict[str, Any]:
        return _shape(*copies.list_of(context, caller.resource.id, job_id, checkpoint_id))


def _require_preview(value: Annotated[str | None, Header(alias=_HEADER)] = None) -> None:
    if value != "preview":
        raise InvalidRequest(
            "missing_preview_header", f"Copying checkpoints is in preview: send the header {_HEADER}: preview.", _HEADER
        )


def _shape(checkpoint: Checkpoint, made: list[tuple[CheckpointCopy, Resource]]) -> Shape:
    """AV1 `CopyModelResponse`. A copy has a row only once all its files are there, so each is Completed."""
    details = [
        {"destinationResourceId": arm.id_of(resource), "region": copy.region, "status": "Completed"}
        for copy, resource in made
    ]
    return {
        "checkpointedModelName": checkpoint.model,
        "fineTuningJobId": checkpoint.job_id,
        "copiedAccountDetails": details,
    }
