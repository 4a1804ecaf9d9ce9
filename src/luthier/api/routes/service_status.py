"""GET /luthier/status: what `luthier status` prints, and which resource a key belongs to."""

from typing import Annotated, Literal

from fastapi import Depends
from msgspec import Struct

from luthier.api.arm import arm_names
from luthier.api.auth import authentication
from luthier.api.routing.operation import json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.service.background import status

PATH = "/luthier/status"


class StatusResource(Struct, kw_only=True):
    """The resource that the caller's key belongs to."""

    name: str
    id: str
    deployments: str


class StatusKey(Struct, kw_only=True):
    name: str
    roles: list[str]


class StatusMachine(Struct, kw_only=True):
    cores: int
    gpus: list[str]
    memory_bytes: int
    memory_free_bytes: int
    disk_bytes: int
    disk_free_bytes: int


class ServiceStatus(Struct, kw_only=True):
    """Version, machine and queue of the service."""

    resource: StatusResource
    object: Literal["luthier.status"] = "luthier.status"
    key: StatusKey
    train_device: Literal["auto", "cpu", "cuda"]
    machine: StatusMachine
    queue: dict[str, int]
    deployments: dict[str, str]
    base_models: list[str]
    versions: dict[str, str]


def build_router(services: Services) -> Router:
    """An extension, outside of every dialect."""
    router = Router(tag="health")
    Caller = Annotated[Principal, Depends(authentication.require_key(services.context))]

    @router.get(PATH, Action.MODELS_READ, "Get the service's version, machine and queue", json_reply(ServiceStatus))
    def get_status(caller: Caller) -> object:
        own = caller.resource
        resource = StatusResource(name=own.account, id=arm_names.id_of(own), deployments=arm_names.path_of(own))
        return {"resource": resource} | status.describe(services.context, caller, services.train_device)

    return router
