"""What the control plane says of an account itself: its keys and its usages, in ARM's shapes (ARM 2024-10-01)."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, BeforeValidator

from luthier.api import arm, auth, kinds
from luthier.api.dialects import Shape
from luthier.api.services import Services
from luthier.core.errors import NotFound, Unsupported
from luthier.core.models import Principal, Usage
from luthier.core.quotas import TITLES, Quota
from luthier.service import keys, quotas

_PROVIDER = "/providers/Microsoft.CognitiveServices"
_ACCOUNT = arm.PREFIX + "/{subscription}/resourceGroups/{group}" + _PROVIDER + "/accounts/{account}"
_LOCATION = arm.PREFIX + "/{subscription}" + _PROVIDER + "/locations/{location}"


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class RegenerateKeyBody(BaseModel):
    """ARM `RegenerateKeyParameters`: Key1 or Key2."""

    keyName: Annotated[Literal["key1", "key2"], BeforeValidator(_lower)]


def build_router(services: Services) -> APIRouter:
    """The routes of accounts beside their deployments."""
    context = services.context
    key = auth.require_key(context)

    def caller_of_path(request: Request, caller: Annotated[Principal, Depends(key)]) -> Principal:
        arm.require_own(request, caller.resource)
        return caller

    router = APIRouter(tags=["arm"], dependencies=[Depends(kinds.require_json)])
    Caller = Annotated[Principal, Depends(caller_of_path)]

    @router.post(_ACCOUNT + "/listKeys")
    def list_keys(caller: Caller) -> Shape:
        """Cannot be done: says what can."""
        names = ", ".join(known.name for known in keys.list_all(context, caller.resource.id))
        raise Unsupported(
            "keys_not_readable",
            f"This resource has the keys {names}. Only their hashes are stored, so none can be shown again. "
            "POST .../regenerateKey with keyName Key1 or Key2 gives a new one, once.",
        )

    @router.post(_ACCOUNT + "/regenerateKey")
    def regenerate_key(body: RegenerateKeyBody, caller: Caller) -> Shape:
        """The new key alone, this once: the other one stays as it is and cannot be shown."""
        return {body.keyName: keys.regenerate(context, caller.resource.id, body.keyName)}

    @router.get(_ACCOUNT + "/usages")
    def list_usages(caller: Caller) -> Shape:
        return _shape(quotas.usages(context, caller.resource.id))

    @router.get(_LOCATION + "/usages")
    def list_usages_of_location(subscription: str, location: str, caller: Annotated[Principal, Depends(key)]) -> Shape:
        """A machine is one location, whatever it is called; a caller sees its own resource alone."""
        if subscription.lower() != caller.resource.subscription.lower():
            raise NotFound("subscription_not_found", f"The subscription '{subscription}' could not be found.")
        return _shape(quotas.usages(context, caller.resource.id))

    return router


def _shape(usages: list[Usage]) -> Shape:
    """ARM `UsageListResult`. A limit on each job by itself is no usage: the command line shows it."""
    return {"value": [_usage(usage) for usage in usages if usage.current is not None]}


def _usage(usage: Usage) -> Shape:
    return {
        "unit": "Bytes" if usage.quota is Quota.FILE_BYTES else "Count",
        "name": {"value": f"OpenAI.FineTuning.{usage.quota}", "localizedValue": TITLES[usage.quota]},
        "currentValue": usage.current,
        "limit": usage.limit,
    }
