"""/openai/deployments of api-version 2022-12-01: deployments in the data plane, which names them itself."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from luthier.api import auth
from luthier.api.dialects import Dialect, Shape, unix
from luthier.api.services import Services
from luthier.core import ids
from luthier.core.errors import InvalidRequest
from luthier.core.models import Deployment, Principal
from luthier.core.states import DeploymentState
from luthier.service import deployments

# A2212 `State` and `ScaleType`. Who asks for `standard` there names no capacity; 120 was Azure's own.
_STATUS = {
    DeploymentState.CREATING: "running",
    DeploymentState.SUCCEEDED: "succeeded",
    DeploymentState.FAILED: "failed",
}
_SKUS = {"standard": "Standard", "manual": "ProvisionedManaged"}
_STANDARD_CAPACITY = 120


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ScaleSettingsBody(_Body):
    scale_type: Literal["standard", "manual"]
    capacity: int | None = None

    def sku(self) -> tuple[str, int]:
        """Name and capacity as the service has them. Raises InvalidRequest."""
        if self.scale_type == "standard":
            return _SKUS["standard"], _STANDARD_CAPACITY
        if self.capacity is None:
            raise InvalidRequest(
                "missing_field",
                "scale_settings.capacity is required with scale_type manual.",
                "scale_settings.capacity",
            )
        return _SKUS["manual"], self.capacity


class CreateBody(_Body):
    model: str = Field(min_length=1)
    scale_settings: ScaleSettingsBody


class UpdateBody(_Body):
    """A merge patch: what is left out stays."""

    model: str | None = Field(default=None, min_length=1)
    scale_settings: ScaleSettingsBody | None = None


def add(router: APIRouter, dialect: Dialect, services: Services) -> None:
    if not dialect.deployment_in_path:
        return
    context = services.context
    Caller = Annotated[Principal, Depends(auth.require_key(context))]

    @router.post("/deployments", status_code=201)
    def create_deployment(request: Request, body: CreateBody, caller: Caller) -> Response:
        name = ids.deployment_name(context.new_hex())
        asked = deployments.DeploymentRequest(name, body.model, None, *body.scale_settings.sku())
        made, _ = deployments.put(context, caller.resource.id, asked)
        services.wake()
        location = str(request.url.replace(path=f"{request.url.path}/{made.name}"))
        return JSONResponse(_shape(made), 201, {"Location": location})

    @router.get("/deployments")
    def list_deployments(caller: Caller) -> dict[str, Any]:
        found = deployments.list_all(context, caller.resource.id)
        return dialect.page([_shape(deployment) for deployment in found], False)

    @router.get("/deployments/{name}")
    def get_deployment(name: str, caller: Caller) -> dict[str, Any]:
        return _shape(deployments.get(context, caller.resource.id, name))

    @router.patch("/deployments/{name}")
    def update_deployment(name: str, body: UpdateBody, caller: Caller) -> dict[str, Any]:
        old = deployments.require_settled(context, caller.resource.id, name)
        sku = body.scale_settings.sku() if body.scale_settings else (old.sku_name, old.sku_capacity)
        if body.model is None:
            changed = deployments.update(context, caller.resource.id, name, sku_name=sku[0], sku_capacity=sku[1])
        else:
            asked = deployments.DeploymentRequest(name, body.model, None, *sku)
            changed, _ = deployments.put(context, caller.resource.id, asked)
            services.wake()
        return _shape(changed)

    @router.delete("/deployments/{name}", status_code=204)
    def delete_deployment(name: str, caller: Caller) -> Response:
        if not deployments.delete(context, services.serving, caller.resource.id, name):
            raise deployments.not_found(name)
        return Response(status_code=204)


def _shape(deployment: Deployment) -> Shape:
    """A2212 `Deployment`; every provisioned sku is manual there, every other standard."""
    is_manual = "provisioned" in deployment.sku_name.lower()
    manual = {"scale_type": "manual", "capacity": deployment.sku_capacity}
    shape: Shape = {
        "object": "deployment",
        "id": deployment.name,
        "status": _STATUS[deployment.state],
        "model": deployment.model,
        "owner": "organization-owner",
        "created_at": unix(deployment.created_at),
        "updated_at": unix(deployment.updated_at),
        "scale_settings": manual if is_manual else {"scale_type": "standard"},
    }
    if deployment.error is not None:
        shape["error"] = {"code": deployment.error.code, "message": deployment.error.message}
    return shape
