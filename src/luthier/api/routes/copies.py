"""/fine_tuning/jobs/{job}/checkpoints/{checkpoint}/copy: Azure's way to give another resource a checkpoint."""

from functools import partial
from typing import Annotated, Literal, Self

from fastapi import Depends, Header, Request
from fastapi.responses import Response
from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field

from luthier.api.arm import arm_names
from luthier.api.auth import authentication
from luthier.api.dialects.dialects import Dialect
from luthier.api.http import thread_pools
from luthier.api.http.thread_pools import Workers
from luthier.api.routing import json_schema as js
from luthier.api.routing.json_response import JsonResponse
from luthier.api.routing.operation import json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest
from luthier.core.models import Checkpoint, CheckpointCopy, Principal
from luthier.core.roles import Action
from luthier.service.jobs import checkpoint_copies

_PATH = "/fine_tuning/jobs/{job_id}/checkpoints/{checkpoint_id}/copy"
_HEADER = "aoai-copy-ft-checkpoints"
_PREVIEW: js.Schema = {
    "name": _HEADER,
    "in": "header",
    "required": True,
    "schema": {"const": "preview"},
    "description": "Copying checkpoints is in preview.",
}


class CopyBody(BaseModel):
    """The account, by its id in the control plane, that gets a copy of a checkpoint; `region` is only stored."""

    model_config = ConfigDict(extra="forbid")

    destinationResourceId: str
    region: str = Field(min_length=1, max_length=128)


class CopiedAccount(Struct, kw_only=True):
    """One copy. It is listed once all its files are stored, so each is Completed."""

    destinationResourceId: str
    region: str
    status: Literal["Completed"] = "Completed"


# AV1 `CopyModelResponse`.
class CheckpointCopies(Struct, kw_only=True):
    """A checkpoint, and the resources that a copy of it was made for."""

    checkpointedModelName: str
    fineTuningJobId: str
    copiedAccountDetails: list[CopiedAccount]

    @classmethod
    def from_copies(cls, checkpoint: Checkpoint, copies: list[CheckpointCopy]) -> Self:
        """A destination is spelled as the caller wrote it: the resource's own spelling would reveal that it exists."""
        return cls(
            checkpointedModelName=checkpoint.model,
            fineTuningJobId=checkpoint.job_id,
            copiedAccountDetails=[
                CopiedAccount(destinationResourceId=arm_names.id_of(copy.destination), region=copy.region)
                for copy in copies
            ],
        )


def add_routes(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the routes to the one dialect that copies checkpoints, Azure's v1; the others permit or have neither."""
    if not dialect.copies_checkpoints:
        return
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]
    reply = json_reply(CheckpointCopies)

    @router.post(
        _PATH, Action.MODELS_WRITE, "Give another resource a copy of a checkpoint", reply, parameters=(_PREVIEW,)
    )
    async def copy_checkpoint(
        request: Request,
        job_id: str,
        checkpoint_id: str,
        body: CopyBody,
        caller: Caller,
        preview: Annotated[None, Depends(_require_preview)],
    ) -> Response:
        """Answers when the copy is complete, with all copies of the checkpoint.

        The destination need not exist: an unknown account and a known one are answered alike.
        """
        own = caller.resource.id
        still_may = partial(authentication.require_still_authorized, context, authentication.credentials_of(request))

        def copied() -> CheckpointCopies:
            """Copies row and blobs in a worker thread, checks that the key is still valid, and lists all copies."""
            checkpoint_copies.create_copy(
                context, own, job_id, checkpoint_id, body.destinationResourceId, body.region, still_may
            )
            return CheckpointCopies.from_copies(*checkpoint_copies.list_copies(context, own, job_id, checkpoint_id))

        return JsonResponse(await thread_pools.run(Workers.BYTES, copied))

    @router.get(_PATH, Action.JOBS_READ, "List the copies of a checkpoint", reply, parameters=(_PREVIEW,))
    def get_copies(
        job_id: str, checkpoint_id: str, caller: Caller, preview: Annotated[None, Depends(_require_preview)]
    ) -> object:
        """Those that this account made, whatever became of them at their destinations."""
        return CheckpointCopies.from_copies(
            *checkpoint_copies.list_copies(context, caller.resource.id, job_id, checkpoint_id)
        )


def _require_preview(value: Annotated[str | None, Header(alias=_HEADER)] = None) -> None:
    """A dependency that raises InvalidRequest unless the request has the header of Azure's preview."""
    if value != "preview":
        raise InvalidRequest(
            "missing_preview_header", f"Copying checkpoints is in preview: send the header {_HEADER}: preview.", _HEADER
        )
