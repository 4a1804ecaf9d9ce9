"""The control plane's deployments, as Azure Resource Manager speaks of them (ARM 2024-10-01; contract section 14).

Another resource model over the same service. A put answers 201 or 200 with provisioningState Creating and no further
header: azure-mgmt and the REST guide then ask for the resource itself until it is Succeeded or Failed. A patch and a
delete are done when they answer.
"""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from luthier.api import auth, kinds
from luthier.api.bodies import DeploymentBody, DeploymentPatchBody, SkuPatchBody
from luthier.api.dialects import Shape
from luthier.api.services import Services
from luthier.core.errors import LuthierError, NotFound, Unauthenticated
from luthier.core.models import Deployment, Principal, Resource
from luthier.service import deployments

PREFIX = "/subscriptions"
_ACCOUNT = PREFIX + "/{subscription}/resourceGroups/{group}/providers/Microsoft.CognitiveServices/accounts/{account}"
_DEPLOYMENTS = _ACCOUNT + "/deployments"
_DEPLOYMENTS_TYPE = "Microsoft.CognitiveServices/accounts/deployments"
_PAGE = 100
_CODES = {
    "invalid_api_key": "InvalidAuthenticationToken",
    "missing_api_key": "AuthenticationFailed",
    "deployment_not_found": "DeploymentNotFound",
    "deployment_model_not_found": "DeploymentModelNotSupported",
    "resource_not_found": "ResourceNotFound",
    "missing_api_version": "MissingApiVersionParameter",
    "unknown_field": "InvalidRequestContent",
    "missing_field": "InvalidRequestContent",
    "invalid_value": "InvalidRequestContent",
    "invalid_json": "InvalidRequestContent",
}


def build_router(services: Services) -> APIRouter:
    """The deployments routes, POST standing in for PUT as one of the guide's pages shows it."""
    context = services.context
    key = auth.require_key(context)

    def caller_of_path(request: Request, caller: Annotated[Principal, Depends(key)]) -> Resource:
        """The resource that the path names, if it is the caller's own."""
        require_own(request, caller.resource)
        return caller.resource

    router = APIRouter(tags=["arm"], dependencies=[Depends(kinds.require_json)])
    Caller = Annotated[Resource, Depends(caller_of_path)]

    @router.post(_DEPLOYMENTS + "/{name}", status_code=201)
    @router.put(_DEPLOYMENTS + "/{name}", status_code=201)
    def put_deployment(name: str, body: DeploymentBody, caller: Caller) -> Response:
        model = body.properties.model
        request = deployments.DeploymentRequest(
            name,
            model.name,
            model.version,
            body.sku.name,
            1 if body.sku.capacity is None else body.sku.capacity,
            body.tags,
            model.source or model.sourceAccount,
        )
        deployment, is_new = deployments.put(context, caller.id, request)
        services.wake()
        return JSONResponse(_shape(caller, deployment), 201 if is_new else 200)

    @router.get(_DEPLOYMENTS + "/{name}")
    def get_deployment(name: str, caller: Caller) -> Shape:
        return _shape(caller, deployments.get(context, caller.id, name))

    @router.patch(_DEPLOYMENTS + "/{name}")
    def patch_deployment(name: str, body: DeploymentPatchBody, caller: Caller) -> Shape:
        sku = body.sku or SkuPatchBody()
        changed = deployments.update(
            context, caller.id, name, sku_name=sku.name, sku_capacity=sku.capacity, tags=body.tags
        )
        return _shape(caller, changed)

    @router.get(_DEPLOYMENTS)
    def list_deployments(
        request: Request, caller: Caller, after: Annotated[str, Query(alias="$skipToken")] = ""
    ) -> Shape:
        found = [deployment for deployment in deployments.list_all(context, caller.id) if deployment.name > after]
        page: Shape = {"value": [_shape(caller, deployment) for deployment in found[:_PAGE]]}
        if len(found) > _PAGE:
            page["nextLink"] = str(request.url.include_query_params(**{"$skipToken": found[_PAGE - 1].name}))
        return page

    @router.delete(_DEPLOYMENTS + "/{name}")
    def delete_deployment(name: str, caller: Caller) -> Response:
        return Response(status_code=200 if deployments.delete(context, services.serving, caller.id, name) else 204)

    _add_skus(router, services, caller_of_path)
    return router


def _add_skus(router: APIRouter, services: Services, caller_of_path: Callable[..., Resource]) -> None:
    """The sizes that a deployment and an account may have."""
    context = services.context
    Caller = Annotated[Resource, Depends(caller_of_path)]

    @router.get(_DEPLOYMENTS + "/{name}/skus")
    def list_skus_of_deployment(name: str, caller: Caller) -> Shape:
        deployments.get(context, caller.id, name)
        capacity = {"minimum": 1, "maximum": deployments.MAX_CAPACITY, "step": 1, "default": 1}
        skus = deployments.SKU_NAMES.values()
        return {
            "value": [{"resourceType": _DEPLOYMENTS_TYPE, "sku": {"name": sku}, "capacity": capacity} for sku in skus]
        }

    @router.get(_ACCOUNT + "/skus")
    def list_skus_of_account(caller: Caller) -> Shape:
        sku = {"name": "S0", "tier": "Standard"}  # the one that Azure OpenAI accounts have
        return {"value": [{"resourceType": "Microsoft.CognitiveServices/accounts", "sku": sku}]}


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
    return f"{id_of(resource)}/deployments"


def id_of(resource: Resource) -> str:
    """A resource's id in the control plane."""
    return _ACCOUNT.format(subscription=resource.subscription, group=resource.resource_group, account=resource.account)


def error(problem: LuthierError) -> Shape:
    """ARM's error envelope: code, message, target, details."""
    code = _CODES.get(problem.code) or "".join(word.capitalize() for word in problem.code.split("_"))
    shape: dict[str, Any] = {"code": code, "message": problem.message}
    if problem.param is not None:
        shape["target"] = problem.param
    if problem.details:
        shape["details"] = [
            {"code": _CODES.get(detail.code, detail.code), "message": detail.message, "target": detail.param}
            for detail in problem.details
        ]
    if isinstance(problem, Unauthenticated):
        shape["message"] += (
            " The same key opens the control plane: send it as `Authorization: Bearer KEY` or `api-key`."
        )
    return {"error": shape}


def _shape(resource: Resource, deployment: Deployment) -> Shape:
    model = {"format": "OpenAI", "name": deployment.model, "version": deployment.model_version or "1"}
    if deployment.model_source is not None:
        model["source"] = deployment.model_source
    properties: dict[str, Any] = {
        "model": model,
        "provisioningState": str(deployment.state),
        "versionUpgradeOption": "NoAutoUpgrade",
        "capabilities": {"chatCompletion": "true"},
        "currentCapacity": deployment.sku_capacity,
        "parity": deployment.parity,
        "error": deployment.error and {"code": deployment.error.code, "message": deployment.error.message},
    }
    return {
        "id": f"{path_of(resource)}/{deployment.name}",
        "type": _DEPLOYMENTS_TYPE,
        "name": deployment.name,
        "tags": dict(deployment.tags),
        "sku": {"name": deployment.sku_name, "capacity": deployment.sku_capacity},
        "properties": {name: value for name, value in properties.items() if value is not None},
        "systemData": {
            "createdAt": deployment.created_at.isoformat(),
            "lastModifiedAt": deployment.updated_at.isoformat(),
        },
        "etag": f'"{int(deployment.updated_at.timestamp() * 1e6):x}"',
    }
