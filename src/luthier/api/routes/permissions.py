"""/fine_tuning/checkpoints/{model}/permissions: OpenAI's way of letting another resource use a checkpoint."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from luthier.api import auth
from luthier.api.dialects import Dialect, Shape, unix
from luthier.api.services import Services
from luthier.core.models import CheckpointPermission, Principal
from luthier.service import permissions

_OBJECT = "checkpoint.permission"
_PATH = "/fine_tuning/checkpoints/{checkpoint}/permissions"


class PermissionsBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    project_ids: list[str] = Field(json_schema_extra={"minItems": 1, "maxItems": permissions.MAX_PROJECTS})


def add(router: APIRouter, dialect: Dialect, services: Services) -> None:
    if not dialect.shares_checkpoints:
        return
    context = services.context
    Caller = Annotated[Principal, Depends(auth.require_key(context))]

    @router.post(_PATH)
    def create_permissions(checkpoint: str, body: PermissionsBody, caller: Caller) -> dict[str, Any]:
        made = permissions.create(context, caller.resource.id, checkpoint, body.project_ids)
        return dialect.page([_shape(permission) for permission in made], False)

    @router.get(_PATH)
    def list_permissions(
        checkpoint: str,
        caller: Caller,
        project_id: str | None = None,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        order: Literal["ascending", "descending"] = "descending",
    ) -> dict[str, Any]:
        found, more = permissions.list_page(
            context, caller.resource.id, checkpoint, project_id, after, limit, order == "ascending"
        )
        return dialect.page([_shape(permission) for permission in found], more)

    @router.delete(_PATH + "/{permission_id}")
    def delete_permission(checkpoint: str, permission_id: str, caller: Caller) -> dict[str, Any]:
        permissions.delete(context, caller.resource.id, checkpoint, permission_id)
        return {"id": permission_id, "object": _OBJECT, "deleted": True}


def _shape(permission: CheckpointPermission) -> Shape:
    return {
        "id": permission.id,
        "object": _OBJECT,
        "created_at": unix(permission.created_at),
        "project_id": permission.resource.account,
    }
