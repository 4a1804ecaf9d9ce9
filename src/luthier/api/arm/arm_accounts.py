"""Accounts, their keys and usages, as Azure Resource Manager has them (ARM 2024-10-01).

An account is a resource, which an operator creates. A caller sees only its own, in lists too.
"""

from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import Depends, Request
from msgspec import Meta, Struct
from pydantic import BaseModel, BeforeValidator

from luthier.api.arm import arm_names
from luthier.api.arm.arm_answers import Collection, SkuName, SystemData
from luthier.api.arm.arm_callers import require_caller_of_path
from luthier.api.auth import authentication
from luthier.api.routing import json_schema as js
from luthier.api.routing.operation import Reply, json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.errors import NotFound, Unsupported
from luthier.core.models import Principal, QuotaUsage, Resource
from luthier.core.quotas import TITLES, Quota
from luthier.core.roles import Action
from luthier.service.tenants import keys, quotas, resources

LOCATION = "local"
"""A machine is one location; every name that a path gives it means this one."""
_NEW_KEY: js.Schema = {
    **js.object_schema({"key1": js.TEXT, "key2": js.TEXT}),
    "required": [],
    "minProperties": 1,
    "maxProperties": 1,
    "description": "The new key under its name, shown only here.",
}
_REFUSED = Reply(status=400)


def _lower(value: object) -> object:
    """A text in lower case, for clients that write `Key1`; another value unchanged, for pydantic to refuse."""
    return value.lower() if isinstance(value, str) else value


class RegenerateKeyBody(BaseModel):
    """ARM `RegenerateKeyParameters`: which of the account's two keys to replace, in any case of letters."""

    keyName: Annotated[Literal["key1", "key2"], BeforeValidator(_lower)]


class AccountProperties(Struct, kw_only=True):
    """ARM `AccountProperties`: the address and state of an account; times are ISO 8601."""

    provisioningState: Literal["Succeeded"] = "Succeeded"
    endpoint: Annotated[str, Meta(description="This service as the caller reached it.")]
    endpoints: dict[str, str]
    customSubDomainName: str
    dateCreated: str
    disableLocalAuth: bool = False
    publicNetworkAccess: str = "Enabled"


class Account(Struct, kw_only=True):
    """ARM `Account`: a resource, which an operator creates; callers see only their own."""

    id: str
    name: str
    type: Literal["Microsoft.CognitiveServices/accounts"] = arm_names.ACCOUNT_TYPE
    kind: Literal["OpenAI"] = "OpenAI"
    location: str = LOCATION
    sku: SkuName
    tags: dict[str, str]
    etag: str
    properties: AccountProperties
    systemData: SystemData

    @classmethod
    def from_resource(cls, resource: Resource, created_at: datetime, base_url: str) -> Self:
        """The account of a resource.

        `base_url` is the address at which the caller reached the service; the etag is made of `created_at`, as an
        account never changes.
        """
        created = created_at.isoformat()
        return cls(
            id=arm_names.id_of(resource),
            name=resource.account,
            sku=SkuName(name="S0", tier="Standard"),
            tags={},
            etag=f'"{int(created_at.timestamp() * 1e6):x}"',
            properties=AccountProperties(
                endpoint=base_url,
                endpoints={"OpenAI Language Model Instance API": base_url},
                customSubDomainName=resource.account,
                dateCreated=created,
            ),
            systemData=SystemData(createdAt=created, lastModifiedAt=created),
        )


class UsageName(Struct, kw_only=True):
    """The name of a quota for programs (`value`) and for people."""

    value: str
    localizedValue: str


class AccountUsage(Struct, kw_only=True):
    """ARM `Usage`: how much of a quota is used now, and its limit."""

    unit: Literal["Count", "Bytes"]
    name: UsageName
    currentValue: int
    limit: int


def build_router(services: Services) -> Router:
    """The routes of accounts, their keys and usages."""
    router = Router(tag="arm")
    _add_key_routes(router, services)
    _add_usage_routes(router, services)
    _add_account_routes(router, services)
    _add_refused_routes(router, services)
    return router


def _add_key_routes(router: Router, services: Services) -> None:
    """Adds listKeys, which is always refused, and regenerateKey."""
    context = services.context
    Caller = Annotated[Principal, Depends(require_caller_of_path(context))]

    @router.post(
        arm_names.ACCOUNT + "/listKeys",
        Action.KEYS_READ,
        "Always refused: keys are stored as hashes and cannot be shown again",
        _REFUSED,
    )
    def list_keys(caller: Caller) -> object:
        """The error names the account's keys, by name only."""
        names = ", ".join(key.name for key in keys.list_all(context, caller.resource.id))
        raise Unsupported(
            "keys_not_readable",
            f"This resource has the keys {names}. Only their hashes are stored, so none can be shown again. "
            "POST .../regenerateKey with keyName Key1 or Key2 gives a new one, once.",
        )

    @router.post(
        arm_names.ACCOUNT + "/regenerateKey", Action.KEYS_WRITE, "Replace a key by a new one", json_reply(_NEW_KEY)
    )
    def regenerate_key(body: RegenerateKeyBody, caller: Caller) -> object:
        """The old key opens nothing from now on. The answer has only the new key, and only this time.

        The other key remains as it is and cannot be shown.
        """
        return {body.keyName: keys.regenerate(context, caller.resource.id, body.keyName)}


def _add_usage_routes(router: Router, services: Services) -> None:
    """Adds the quotas of the account, and the same under a location's path. They only read."""
    context = services.context

    @router.get(
        arm_names.ACCOUNT + "/usages",
        Action.USAGES_READ,
        "List the quotas and how much of each is used",
        json_reply(Collection[AccountUsage]),
    )
    def list_usages(caller: Annotated[Principal, Depends(require_caller_of_path(context))]) -> object:
        return _usages(quotas.usages(context, caller.resource.id))

    @router.get(
        arm_names.LOCATION + "/usages",
        Action.USAGES_READ,
        "List the quotas and how much of each is used, by location",
        json_reply(Collection[AccountUsage]),
    )
    def list_usages_of_location(
        subscription: str, location: str, caller: Annotated[Principal, Depends(authentication.require_key(context))]
    ) -> object:
        """The caller's own usages, whatever the location is called; 404 for another subscription."""
        arm_names.require_subscription(subscription, caller.resource)
        return _usages(quotas.usages(context, caller.resource.id))


def _add_account_routes(router: Router, services: Services) -> None:
    """Adds the routes that show the caller's account, alone and as a list of one. They only read."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]
    list_reply = json_reply(Collection[Account])

    def account(request: Request, caller: Principal) -> Account:
        """The caller's account as an answer; reads its time of creation from the database."""
        created_at = resources.created_at(context, caller.resource.id)
        return Account.from_resource(caller.resource, created_at, str(request.base_url))

    @router.get(arm_names.ACCOUNT, Action.RESOURCES_READ, "Get the caller's account", json_reply(Account))
    def get_account(request: Request, caller: Annotated[Principal, Depends(require_caller_of_path(context))]) -> object:
        """404 for every other account than the caller's own."""
        return account(request, caller)

    @router.get(arm_names.SUBSCRIPTION + "/accounts", Action.RESOURCES_READ, "List the caller's account", list_reply)
    def list_accounts(request: Request, subscription: str, caller: Caller) -> object:
        """A list of one: the caller's account. 404 for another subscription."""
        arm_names.require_subscription(subscription, caller.resource)
        return Collection(value=[account(request, caller)])

    @router.get(arm_names.GROUP + "/accounts", Action.RESOURCES_READ, "List the caller's account", list_reply)
    def list_accounts_of_group(request: Request, subscription: str, group: str, caller: Caller) -> object:
        """A list of one: the caller's account. 404 for another subscription or resource group."""
        arm_names.require_subscription(subscription, caller.resource)
        if group.lower() != caller.resource.resource_group.lower():
            raise NotFound("resource_group_not_found", f"Resource group '{group}' could not be found.")
        return Collection(value=[account(request, caller)])


def _add_refused_routes(router: Router, services: Services) -> None:
    """Adds what only an operator can do, refused with the command for it. Nothing is changed."""
    Caller = Annotated[Principal, Depends(authentication.require_key(services.context))]

    @router.route(
        ("PUT", "PATCH", "DELETE"),
        arm_names.ACCOUNT,
        Action.RESOURCES_WRITE,
        "Always refused: an operator creates and deletes accounts",
        _REFUSED,
    )
    def change_account(account: str, caller: Caller) -> object:
        """Always 400, which says what an operator runs and how a template refers to an existing account."""
        raise Unsupported(
            "account_not_changeable",
            f"Accounts are created and deleted by an operator on the service's machine (`luthier resources create "
            f"NAME`). Your key opens the account {caller.resource.account}: declare it as existing (Bicep: `existing`; "
            "Terraform: a data source) and deploy into it.",
        )


def _usages(usages: list[QuotaUsage]) -> Collection[AccountUsage]:
    """ARM `UsageListResult`: bytes for the quota of stored bytes, counts for the others.

    A limit on each single job has no usage and is left out: only the command line shows it.
    """
    return Collection(
        value=[
            AccountUsage(
                unit="Bytes" if usage.quota is Quota.FILE_BYTES else "Count",
                name=UsageName(value=f"OpenAI.FineTuning.{usage.quota}", localizedValue=TITLES[usage.quota]),
                currentValue=usage.current,
                limit=usage.limit,
            )
            for usage in usages
            if usage.current is not None
        ]
    )
