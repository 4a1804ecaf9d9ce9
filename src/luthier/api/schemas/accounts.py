"""What the control plane says of an account beside its deployments: skus, a new key, usages."""

from luthier.api.schemas import json_schema as js

_CAPACITY = js.thing({"minimum": js.WHOLE, "maximum": js.WHOLE, "step": js.WHOLE, "default": js.WHOLE})
_SKU = js.thing({"name": js.TEXT, "tier": js.Optional(js.TEXT)})
_USAGE = js.thing(
    {
        "unit": js.words(["Count", "Bytes"]),
        "name": js.thing({"value": js.TEXT, "localizedValue": js.TEXT}),
        "currentValue": js.WHOLE,
        "limit": js.WHOLE,
    }
)
SKUS = js.thing(
    {"value": js.listed(js.thing({"resourceType": js.TEXT, "sku": _SKU, "capacity": js.Optional(_CAPACITY)}))}
)
USAGES = js.thing({"value": js.listed(_USAGE)})
NEW_KEY: js.Schema = {
    **js.thing({"key1": js.TEXT, "key2": js.TEXT}),
    "required": [],
    "minProperties": 1,
    "maxProperties": 1,
    "description": "The new key under its name, shown this once.",
}
