"""Deployments as Azure Resource Manager shows them, and as the data plane of 2022-12-01 does."""

from luthier.api.dialects import Dialect
from luthier.api.schemas import json_schema as js
from luthier.core.states import DeploymentState

_SKU = js.thing({"name": js.TEXT, "capacity": js.WHOLE})
_MODEL = js.thing({"format": js.const("OpenAI"), "name": js.TEXT, "version": js.TEXT, "source": js.Optional(js.TEXT)})
_TIMES = js.thing({"createdAt": js.TEXT | {"format": "date-time"}, "lastModifiedAt": js.TEXT | {"format": "date-time"}})


def deployment() -> js.Schema:
    properties = js.thing(
        {
            "model": _MODEL,
            "provisioningState": js.words(DeploymentState),
            "versionUpgradeOption": js.TEXT,
            "capabilities": js.mapped(js.TEXT),
            "currentCapacity": js.WHOLE,
            "parity": js.Maybe(js.mapped(js.NUMBER) | {"description": "How exactly it answers as it was trained."}),
            "error": js.Maybe(js.thing({"code": js.TEXT, "message": js.TEXT})),
            "rateLimits": js.Optional(js.listed(js.mapped(js.ANY))),
        },
        keeps_null=False,
    )
    return js.thing(
        {
            "id": js.TEXT,
            "type": js.const("Microsoft.CognitiveServices/accounts/deployments"),
            "name": js.TEXT,
            "sku": _SKU,
            "properties": properties,
            "systemData": _TIMES,
            "etag": js.TEXT,
            "tags": js.Optional(js.mapped(js.TEXT)),
        },
        says="A named, answering model.",
    )


def data_plane_deployment(_: Dialect) -> js.Schema:
    scale = js.thing({"scale_type": js.words(["standard", "manual"]), "capacity": js.Optional(js.WHOLE)})
    return js.thing(
        {
            "object": js.const("deployment"),
            "id": js.TEXT,
            "status": js.words(["running", "succeeded", "failed"]),
            "model": js.TEXT,
            "owner": js.const("organization-owner"),
            "created_at": js.UNIX,
            "updated_at": js.UNIX,
            "scale_settings": scale,
            "error": js.Optional(js.thing({"code": js.TEXT, "message": js.TEXT})),
        },
        says="A named, answering model, in the words of api-version 2022-12-01.",
    )


def deployments(item: js.Schema) -> js.Schema:
    return js.thing({"value": js.listed(item), "nextLink": js.Optional(js.TEXT)})
