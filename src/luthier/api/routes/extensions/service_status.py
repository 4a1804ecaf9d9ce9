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
from luthier.service import status

PATH = "/luthier/status"


class StatusResource(Struct, kw_only=True):
    """The resource of the caller's key; `deployments` is the path of its deployments in the control plane."""

    name: str
    id: str
    deployments: str


class StatusKey(Struct, kw_only=True):
    """The key that asks, by name, and its roles."""

    name: str
    roles: list[str]


class StatusMachine(Struct, kw_only=True):
    """The machine of the service; sizes in bytes, `gpus` by the driver's names."""

    cores: int
    gpus: list[str]
    memory_bytes: int
    memory_free_bytes: int
    disk_bytes: int
    disk_free_bytes: int


class ServiceStatus(Struct, kw_only=True):
    """Version, machine and queue of the service.

    `queue` counts open jobs of all resources by status; `deployments` are the caller's own, by name their state.
    """

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
    """The one route of this module, an extension outside of every dialect."""
    router = Router(tag="health")
    Caller = Annotated[Principal, Depends(authentication.require_key(services.context))]

    @router.get(PATH, Action.MODELS_READ, "Get the service's version, machine and queue", json_reply(ServiceStatus))
    def get_status(caller: Caller) -> object:
        """Of other resources only the number of open jobs is told."""
        own = caller.resource
        resource = StatusResource(name=own.account, id=arm_names.id_of(own), deployments=arm_names.path_of(own))
        return {"resource": resource} | status.describe(services.context, caller, services.train_device)

    return router
