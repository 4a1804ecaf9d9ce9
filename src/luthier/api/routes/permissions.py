"""/fine_tuning/checkpoints/{model}/permissions: OpenAI's way to let another resource use a checkpoint."""

from typing import Annotated, Literal, Self

from fastapi import Depends, Query
from msgspec import Meta, Struct
from pydantic import BaseModel, ConfigDict, Field

from luthier.api.auth import authentication
from luthier.api.dialects import answer
from luthier.api.dialects.answer import Deleted, Unix
from luthier.api.dialects.dialects import Dialect
from luthier.api.routing.operation import PageOf, json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.models import CheckpointPermission, Principal
from luthier.core.roles import Action
from luthier.service.models import checkpoint_permissions

_PATH = "/fine_tuning/checkpoints/{checkpoint}/permissions"


class PermissionsBody(BaseModel):
    """The resources, by name, that may use a checkpoint from now on."""

    model_config = ConfigDict(extra="forbid")

    project_ids: list[str] = Field(json_schema_extra={"minItems": 1, "maxItems": checkpoint_permissions.MAX_PROJECTS})


class Permission(Struct, kw_only=True):
    """Another resource's permission to deploy and call a checkpoint."""

    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    created_at: Unix
    project_id: Annotated[str, Meta(description="The name of the resource that may use the checkpoint.")]

    @classmethod
    def from_permission(cls, permission: CheckpointPermission) -> Self:
        return cls(id=permission.id, created_at=answer.unix(permission.created_at), project_id=permission.account)


def add_routes(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the routes to the one dialect that shares checkpoints, OpenAI's; Azure copies them."""
    if not dialect.shares_checkpoints:
        return
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]
    page_reply = json_reply(PageOf(Permission))

    @router.post(_PATH, Action.MODELS_WRITE, "Permit other resources to use a checkpoint", page_reply)
    def create_permissions(checkpoint: str, body: PermissionsBody, caller: Caller) -> object:
        """All or none. Whether a resource of that name exists is not told."""
        created = checkpoint_permissions.create(context, caller.resource.id, checkpoint, body.project_ids)
        return answer.page([Permission.from_permission(permission) for permission in created], has_more=False)

    @router.get(_PATH, Action.JOBS_READ, "List who else may use a checkpoint", page_reply)
    def list_permissions(
        checkpoint: str,
        caller: Caller,
        project_id: str | None = None,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        order: Literal["ascending", "descending"] = "descending",
    ) -> object:
        """`project_id` picks one resource by name; `after` is the last id of the page before."""
        page, has_more = checkpoint_permissions.list_page(
            context, caller.resource.id, checkpoint, project_id, after, limit, order == "ascending"
        )
        return answer.page([Permission.from_permission(permission) for permission in page], has_more)

    @router.delete(
        _PATH + "/{permission_id}",
        Action.MODELS_WRITE,
        "Delete a permission",
        json_reply(Deleted[Literal["checkpoint.permission"]]),
    )
    def delete_permission(checkpoint: str, permission_id: str, caller: Caller) -> object:
        """A deployment of the other resource that depends on it stops answering."""
        checkpoint_permissions.delete(context, caller.resource.id, checkpoint, permission_id)
        return Deleted(id=permission_id, object="checkpoint.permission")
