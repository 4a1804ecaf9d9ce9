"""Names and paths of resources in the control plane, and the checks that a path names the caller's own."""

from typing import Final

from fastapi import Request

from luthier.core.errors import NotFound
from luthier.core.models import Resource, ResourceName

PREFIX = "/subscriptions"
PROVIDER = "/providers/Microsoft.CognitiveServices"
SUBSCRIPTION = PREFIX + "/{subscription}" + PROVIDER
GROUP = PREFIX + "/{subscription}/resourceGroups/{group}" + PROVIDER
ACCOUNT = GROUP + "/accounts/{account}"
LOCATION = SUBSCRIPTION + "/locations/{location}"
ACCOUNT_TYPE: Final = "Microsoft.CognitiveServices/accounts"
DEPLOYMENT_TYPE: Final = "Microsoft.CognitiveServices/accounts/deployments"


def id_of(resource: Resource | ResourceName) -> str:
    """A resource's id in the control plane: the path of its account."""
    return ACCOUNT.format(subscription=resource.subscription, group=resource.resource_group, account=resource.account)


def path_of(resource: Resource) -> str:
    """The path below which a resource's deployments are."""
    return f"{id_of(resource)}/deployments"


def require_own(request: Request, own: Resource) -> None:
    """Raises NotFound if the path names another resource than the caller's, whether that one exists or not."""
    path = request.path_params
    named = (path["subscription"].lower(), path["group"].lower(), path["account"].lower())
    if named != (own.subscription.lower(), own.resource_group.lower(), own.account.lower()):
        raise NotFound(
            "resource_not_found",
            f"The Resource 'Microsoft.CognitiveServices/accounts/{path['account']}' under resource group "
            f"'{path['group']}' was not found. Your key opens {id_of(own)}.",
        )


def require_subscription(subscription: str, own: Resource) -> None:
    """Raises NotFound for every other subscription than the caller's own."""
    if subscription.lower() != own.subscription.lower():
        raise NotFound("subscription_not_found", f"The subscription '{subscription}' could not be found.")
