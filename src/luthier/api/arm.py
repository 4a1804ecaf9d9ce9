"""The control plane's deployments, as Azure Resource Manager speaks of them (ARM 2024-10-01; contract section 14).

Another resource model over the same service. A put answers 201 or 200 with provisioningState Creating and no further
header: azure-mgmt and the REST guide then ask for the resource itself until it is Succeeded or Failed.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from luthier.api import auth
from luthier.api.bodies import DeploymentBody
from luthier.api.dialects import Shape
from luthier.api.services import Services
from luthier.core.errors import LuthierError, NotFound, Unauthenticated
from luthier.core.models import Deployment, Principal, Resource
from luthier.service import deployments

PREFIX = "/subscriptions"
_DEPLOYMENTS = (
    PREFIX + "/{subscription}/resourceGroups/{group}/providers/Microsoft.CognitiveServices"
    "/accounts/{account}/deployments"
)
_CODES = {
    "invalid_api_key": "InvalidAuthenticationToken",
    "missing_api_key": "AuthenticationFailed",
    "deployment_not_found": "DeploymentNotFound",
    "deployment_model_not_found": "DeploymentModelNotSupported",
    "resource_not_found": "ResourceNotFound",
    "missing_api_version": "MissingApiVersionParameter",
}


def build_router(services: Services) -> APIRouter:
    """The deployments routes, POST standing in for PUT as one of the guide's pages shows it."""
    context = services.context
    key = auth.require_key(context)

    def caller_of_path(request: Request, caller: Annotated[Principal, Depends(key)]) -> Resource:
        """The resource that the path names, if it is the caller's own."""
        require_own(request, caller.resource)
        return caller.resource

    router = APIRouter(tags=["arm"])
    Caller = Annotated[Resource, Depends(caller_of_path)]

    @router.post(_DEPLOYMENTS + "/{name}", status_code=201)
    @router.put(_DEPLOYMENTS + "/{name}", status_code=201)
    def put_deployment(name: str, body: DeploymentBody, caller: Caller) -> Response:
        model = body.properties.model
        request = deployments.DeploymentRequest(
            name, model.name, model.version, body.sku.name, 1 if body.sku.capacity is None else body.sku.capacity
        )
        deployment, is_new = deployments.put(context, caller.id, request)
        services.wake()
        return JSONResponse(_shape(caller, deployment), 201 if is_new else 200)

    @router.get(_DEPLOYMENTS + "/{name}")
    def get_deployment(name: str, caller: Caller) -> Shape:
        return _shape(caller, deployments.get(context, caller.id, name))

    @router.get(_DEPLOYMENTS)
    def list_deployments(caller: Caller) -> Shape:
        return {"value": [_shape(caller, deployment) for deployment in deployments.list_all(context, caller.id)]}

    @router.delete(_DEPLOYMENTS + "/{name}")
    def delete_deployment(name: str, caller: Caller) -> Response:
        return Response(status_code=200 if deployments.delete(context, services.serving, caller.id, name) else 204)

    return router


def require_own(request: Request, own: Resource) -> None:
    """Raises NotFound where the path names another resource than the caller's, as for one that never was."""
    path = request.path_params
    named = (path["subscription"].lower(), path["group"].lower(), path["account"].lower())
    if named != (own.subscription.lower(), own.resource_group.lower(), own.account.lower()):
        raise NotFound(
            "resource_not_found",
            f"The Resource 'Microsoft.CognitiveServices/accounts/{path['account']}' under resource group "
            f"'{path['group']}' was not found. `luthier serve` prints the path that belongs to your key.",
        )


def path_of(resource: Resource) -> str:
    """The path below which a resource's deployments stand."""
    return _DEPLOYMENTS.format(
        subscription=resource.subscription, group=resource.resource_group, account=resource.account
    )


def error(problem: LuthierError) -> Shape:
    """ARM's error envelope: code, message, target, details."""
    code = _CODES.get(problem.code) or "".join(word.capitalize() for word in problem.code.split("_"))
    shape: dict[str, Any] = {"code": code, "message": problem.message}
    if problem.param is not None:
        shape["target"] = problem.param
    if isinstance(problem, Unauthenticated):
        shape["message"] += (
            " The same key opens the control plane: send it as `Authorization: Bearer KEY` or `api-key`."
        )
    return {"error": shape}


def _shape(resource: Resource, deployment: Deployment) -> Shape:
    properties: dict[str, Any] = {
        "model": {"format": "OpenAI", "name": deployment.model, "version": deployment.model_version or "1"},
        "provisioningState": str(deployment.state),
        "versionUpgradeOption": "NoAutoUpgrade",
        "capabilities": {"chatCompletion": "true"},
        "currentCapacity": deployment.sku_capacity,
        "parity": deployment.parity,
        "error": deployment.error and {"code": deployment.error.code, "message": deployment.error.message},
    }
    return {
        "id": f"{path_of(resource)}/{deployment.name}",
        "type": "Microsoft.CognitiveServices/accounts/deployments",
        "name": deployment.name,
        "sku": {"name": deployment.sku_name, "capacity": deployment.sku_capacity},
        "properties": {name: value for name, value in properties.items() if value is not None},
        "systemData": {
            "createdAt": deployment.created_at.isoformat(),
            "lastModifiedAt": deployment.updated_at.isoformat(),
        },
        "etag": f'"{int(deployment.updated_at.timestamp() * 1e6):x}"',
    }
