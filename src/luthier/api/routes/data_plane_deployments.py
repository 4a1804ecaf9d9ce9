"""/openai/deployments of api-version 2022-12-01: deployments in the data plane, which names them itself."""

from typing import Annotated, Literal, Self

from fastapi import Depends, Request, Response
from msgspec import UNSET, Struct, UnsetType
from pydantic import BaseModel, ConfigDict, Field

from luthier.api.arm.arm_answers import DeploymentFailure
from luthier.api.auth import authentication
from luthier.api.dialects import answer
from luthier.api.dialects.answer import Unix, one_of
from luthier.api.dialects.dialects import Dialect
from luthier.api.routing.json_response import JsonResponse
from luthier.api.routing.operation import NO_CONTENT, PageOf, json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core import ids
from luthier.core.errors import InvalidRequest
from luthier.core.models import Deployment, Principal
from luthier.core.roles import Action
from luthier.core.states import DeploymentState
from luthier.service.models import deployments

# A2212 `State` and `ScaleType`. `standard` has no capacity there; 120 was Azure's own.
_STATUS = {
    DeploymentState.CREATING: "running",
    DeploymentState.SUCCEEDED: "succeeded",
    DeploymentState.FAILED: "failed",
}
_SKUS = {"standard": "Standard", "manual": "ProvisionedManaged"}
_STANDARD_CAPACITY = 120


class _Body(BaseModel):
    """A JSON object in which an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class DataPlaneScaleSettingsBody(_Body):
    """`scale_settings`: standard, or manual with a capacity."""

    scale_type: Literal["standard", "manual"]
    capacity: int | None = None

    def sku(self) -> tuple[str, int]:
        """Name and capacity as the service has them; a capacity with `standard` is ignored.

        Raises InvalidRequest if manual has none.
        """
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
    """POST /deployments; the service chooses the name."""

    model: str = Field(min_length=1)
    scale_settings: DataPlaneScaleSettingsBody


class UpdateBody(_Body):
    """A merge patch: what is left out stays as it is."""

    model: str | None = Field(default=None, min_length=1)
    scale_settings: DataPlaneScaleSettingsBody | None = None


class DataPlaneScaleSettings(Struct, kw_only=True):
    """The scale of a deployment; `standard` has no capacity."""

    scale_type: Literal["standard", "manual"]
    capacity: int | UnsetType = UNSET


# A2212 `Deployment`.
class DataPlaneDeployment(Struct, kw_only=True):
    """A name under which a model answers."""

    object: Literal["deployment"] = "deployment"
    id: str
    status: Annotated[str, one_of(_STATUS.values())]
    model: str
    owner: Literal["organization-owner"] = "organization-owner"
    created_at: Unix
    updated_at: Unix
    scale_settings: DataPlaneScaleSettings
    error: DeploymentFailure | UnsetType = UNSET

    @classmethod
    def from_deployment(cls, deployment: Deployment) -> Self:
        """The deployment in the words of 2022-12-01: every provisioned sku is manual there, every other standard."""
        is_manual = "provisioned" in deployment.sku_name.lower()
        scale = DataPlaneScaleSettings(scale_type="standard")
        if is_manual:
            scale = DataPlaneScaleSettings(scale_type="manual", capacity=deployment.sku_capacity)
        error = deployment.error
        return cls(
            id=deployment.name,
            status=_STATUS[deployment.state],
            model=deployment.model,
            created_at=answer.unix(deployment.created_at),
            updated_at=answer.unix(deployment.updated_at),
            scale_settings=scale,
            error=UNSET if error is None else DeploymentFailure(code=error.code, message=error.message),
        )


def add_routes(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds them to the one dialect whose data plane has them; the others deploy through the control plane."""
    if not dialect.has_data_plane_deployments:
        return
    _add_write_routes(router, services)
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]

    @router.get("/deployments", Action.DEPLOYMENTS_READ, "List deployments", json_reply(PageOf(DataPlaneDeployment)))
    def list_deployments(caller: Caller) -> object:
        """All on one page, those of the control plane too."""
        every = deployments.list_all(context, caller.resource.id)
        return answer.page([DataPlaneDeployment.from_deployment(deployment) for deployment in every], has_more=False)

    @router.get("/deployments/{name}", Action.DEPLOYMENTS_READ, "Get a deployment", json_reply(DataPlaneDeployment))
    def get_deployment(name: str, caller: Caller) -> object:
        return DataPlaneDeployment.from_deployment(deployments.get(context, caller.resource.id, name))


def _add_write_routes(router: Router, services: Services) -> None:
    """Adds creation, change and deletion."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]

    @router.post(
        "/deployments",
        Action.DEPLOYMENTS_WRITE,
        "Create a deployment under a name that the service chooses",
        json_reply(DataPlaneDeployment, 201, required_headers=("Location",)),
    )
    def create_deployment(request: Request, body: CreateBody, caller: Caller) -> Response:
        """Answers at once with status `running`; the model is loaded and checked in the background."""
        name = ids.deployment_name(context.new_hex())
        wanted = deployments.DeploymentRequest(name, body.model, None, *body.scale_settings.sku())
        deployment, _ = deployments.put(context, caller.resource.id, wanted)
        services.wake()
        location = str(request.url.replace(path=f"{request.url.path}/{deployment.name}"))
        return JsonResponse(DataPlaneDeployment.from_deployment(deployment), 201, {"Location": location})

    @router.patch(
        "/deployments/{name}",
        Action.DEPLOYMENTS_WRITE,
        "Change a deployment's model or scale",
        json_reply(DataPlaneDeployment),
    )
    def update_deployment(name: str, body: UpdateBody, caller: Caller) -> object:
        """What is left out stays as it is; 409 while it is being created, or if there is none.

        A new model makes it `running` again.
        """
        old = deployments.get_settled(context, caller.resource.id, name)
        sku = body.scale_settings.sku() if body.scale_settings else (old.sku_name, old.sku_capacity)
        if body.model is None:
            changed = deployments.update(context, caller.resource.id, name, sku_name=sku[0], sku_capacity=sku[1])
        else:
            wanted = deployments.DeploymentRequest(name, body.model, None, *sku)
            changed, _ = deployments.put(context, caller.resource.id, wanted)
            services.wake()
        return DataPlaneDeployment.from_deployment(changed)

    @router.delete(
        "/deployments/{name}", Action.DEPLOYMENTS_WRITE, "Delete a deployment; its model remains", NO_CONTENT
    )
    def delete_deployment(name: str, caller: Caller) -> Response:
        """404 if there is no such deployment. A model that no other deployment serves is unloaded."""
        if not deployments.delete(context, services.serving, caller.resource.id, name):
            raise deployments.not_found(name)
        return Response(status_code=204)
