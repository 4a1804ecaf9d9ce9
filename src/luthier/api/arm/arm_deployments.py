"""The control plane's deployments, as Azure Resource Manager has them (ARM 2024-10-01; wire-contract.md section 14).

Another resource model over the same service. A put answers 201 or 200 with provisioningState Creating and
`Retry-After`: azure-mgmt and the REST guide then poll the resource until it is Succeeded or Failed, by default every
30 seconds. A patch and a delete are complete when they answer.
"""

from typing import Annotated

from fastapi import Depends, Query, Request, Response

from luthier.api.arm import arm_names
from luthier.api.arm.arm_answers import ArmDeployment, CapacityRange, Collection, ResourceSku, SkuName
from luthier.api.arm.arm_bodies import DeploymentBody, DeploymentPatchBody, SkuBody
from luthier.api.arm.arm_callers import require_caller_of_path
from luthier.api.routing.json_response import JsonResponse
from luthier.api.routing.operation import Reply, json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.models import Deployment, Principal, Resource
from luthier.core.roles import Action
from luthier.core.states import DeploymentState
from luthier.service.context import Context
from luthier.service.models import deployment_fields, deployments, model_kinds

_DEPLOYMENTS = arm_names.ACCOUNT + "/deployments"
_DEPLOYMENT = _DEPLOYMENTS + "/{name}"
_PAGE = 100
_RETRY_AFTER = {"retry-after": "1"}
"""Seconds until a deployment in state Creating is polled again: a small model is loaded and proven in two."""
_EXAMPLE = {
    "sku": {"name": "Standard", "capacity": 1},
    "properties": {"model": {"format": "OpenAI", "name": "smollm2-135m-instruct.ft-" + "4" * 32, "version": "1"}},
}


def build_router(services: Services) -> Router:
    """The routes of deployments and of the skus that they can have."""
    router = Router(tag="arm")
    _add_creation(router, services)
    _add_changes(router, services)
    _add_reads(router, services)
    _add_skus(router, services)
    return router


def _add_creation(router: Router, services: Services) -> None:
    """Adds PUT, which creates a deployment or replaces its model or sku; POST does the same."""
    context = services.context
    Caller = Annotated[Principal, Depends(require_caller_of_path(context))]

    # POST is accepted for PUT, as one of the guide's pages shows it.
    @router.route(
        ("PUT", "POST"),
        _DEPLOYMENT,
        Action.DEPLOYMENTS_WRITE,
        "Create a deployment, or change its model or sku",
        json_reply(ArmDeployment, 201, headers=("Retry-After",)),
        json_reply(ArmDeployment, headers=("Retry-After",)),
        example=_EXAMPLE,
    )
    def put_deployment(name: str, body: DeploymentBody, caller: Caller) -> Response:
        """201 if the deployment is new. It is Creating until the model is loaded and its log-probabilities are checked.

        A change of the sku or the tags alone takes effect at once. The properties that were sent are read back as they
        were sent.
        """
        model = body.properties.model
        sku_name, sku_capacity = body.requested_sku()
        request = deployments.DeploymentRequest(
            name,
            model.name,
            model.version,
            sku_name,
            sku_capacity,
            body.tags,
            model.source or model.sourceAccount,
            body.stored_fields(),
        )
        deployment, is_new = deployments.put(context, caller.resource.id, request)
        services.wake()
        return _respond(context, caller.resource, deployment, 201 if is_new else 200)


def _add_changes(router: Router, services: Services) -> None:
    """Adds PATCH and DELETE, which are complete when they answer."""
    context = services.context
    Caller = Annotated[Principal, Depends(require_caller_of_path(context))]

    @router.patch(_DEPLOYMENT, Action.DEPLOYMENTS_WRITE, "Change a deployment's sku or tags", json_reply(ArmDeployment))
    def patch_deployment(name: str, body: DeploymentPatchBody, caller: Caller) -> Response:
        """What is left out stays as it is. The model keeps answering meanwhile; 404 if there is no such deployment."""
        sku = body.sku or SkuBody()
        changed = deployments.update(
            context,
            caller.resource.id,
            name,
            sku_name=sku.name,
            sku_capacity=sku.capacity,
            tags=body.tags,
            sku_extras=sku.stored_fields(),
        )
        return _respond(context, caller.resource, changed)

    @router.delete(
        _DEPLOYMENT,
        Action.DEPLOYMENTS_WRITE,
        "Delete a deployment; its model remains",
        Reply(),
        Reply(status=204),
    )
    def delete_deployment(name: str, caller: Caller) -> Response:
        """200 if there was such a deployment, 204 if there was none.

        A model that no other deployment serves is unloaded.
        """
        was_there = deployments.delete(context, services.serving, caller.resource.id, name)
        return Response(status_code=200 if was_there else 204)


def _add_reads(router: Router, services: Services) -> None:
    """Adds one deployment and the list of all; both only read."""
    context = services.context
    Caller = Annotated[Principal, Depends(require_caller_of_path(context))]

    @router.get(
        _DEPLOYMENT,
        Action.DEPLOYMENTS_READ,
        "Get a deployment",
        json_reply(ArmDeployment, headers=("Retry-After",)),
    )
    def get_deployment(name: str, caller: Caller) -> Response:
        """404 if there is none. `Retry-After` says when to look again while it is being created."""
        return _respond(context, caller.resource, deployments.get(context, caller.resource.id, name))

    @router.get(
        _DEPLOYMENTS,
        Action.DEPLOYMENTS_READ,
        "List deployments; nextLink is the next page",
        json_reply(Collection[ArmDeployment]),
    )
    def list_deployments(
        request: Request, caller: Caller, after: Annotated[str, Query(alias="$skipToken")] = ""
    ) -> object:
        """By name, 100 to a page; `$skipToken` is the last name of the page before."""
        every = deployments.list_all(context, caller.resource.id)
        following = [deployment for deployment in every if deployment.name > after]
        page = following[:_PAGE]
        answers = [
            ArmDeployment.from_deployment(caller.resource, one, model_kinds.embeds(context, one.model)) for one in page
        ]
        collection = Collection(value=answers)
        if len(following) > _PAGE:
            collection.nextLink = str(request.url.include_query_params(**{"$skipToken": page[-1].name}))
        return collection


def _add_skus(router: Router, services: Services) -> None:
    """Adds the lists of skus that a deployment and an account may have; they are the same for all."""
    context = services.context
    Caller = Annotated[Principal, Depends(require_caller_of_path(context))]

    @router.get(
        _DEPLOYMENT + "/skus",
        Action.DEPLOYMENTS_READ,
        "List the skus that a deployment can have",
        json_reply(Collection[ResourceSku]),
    )
    def list_skus_of_deployment(name: str, caller: Caller) -> object:
        """404 if there is no such deployment."""
        deployments.get(context, caller.resource.id, name)
        return Collection(
            value=[
                ResourceSku(resourceType=arm_names.DEPLOYMENT_TYPE, sku=SkuName(name=sku), capacity=CapacityRange())
                for sku in deployment_fields.SKU_NAMES.values()
            ]
        )

    @router.get(
        arm_names.ACCOUNT + "/skus",
        Action.DEPLOYMENTS_READ,
        "List the skus of an account",
        json_reply(Collection[ResourceSku]),
    )
    def list_skus_of_account(caller: Caller) -> object:
        """The one sku of every account, S0: an account's limits are its quotas."""
        sku = SkuName(name="S0", tier="Standard")  # the one that Azure OpenAI accounts have
        return Collection(value=[ResourceSku(resourceType=arm_names.ACCOUNT_TYPE, sku=sku)])


def _respond(context: Context, resource: Resource, deployment: Deployment, status: int = 200) -> Response:
    """The deployment as an answer, with `Retry-After` while it is being created."""
    is_settled = deployment.state is not DeploymentState.CREATING
    answer = ArmDeployment.from_deployment(resource, deployment, model_kinds.embeds(context, deployment.model))
    return JsonResponse(answer, status, {} if is_settled else _RETRY_AFTER)
