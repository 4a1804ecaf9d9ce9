"""Error envelopes, one for each vendor's way of saying what went wrong."""

from luthier.api.dialects import AZURE, AZURE_V1, Dialect
from luthier.api.schemas import json_schema as js

_INNER = js.thing({"code": js.TEXT | {"description": "The word that programs may test."}})
_DETAIL = js.thing({"code": js.TEXT, "message": js.TEXT, "innererror": _INNER, "target": js.Optional(js.TEXT)})
_MESSAGE = js.TEXT | {"description": "What is wrong, where, and what to do."}


def error(dialect: Dialect) -> js.Schema:
    """The envelope of a dialect, as `error_shapes` fills it."""
    if dialect is AZURE:
        return _enveloped(
            {
                "code": js.TEXT,
                "message": _MESSAGE,
                "innererror": _INNER,
                "target": js.Optional(js.TEXT),
                "param": js.Optional(js.TEXT),
                "details": js.Optional(js.listed(_DETAIL)),
            }
        )
    shared: dict[str, js.Schema | js.Maybe | js.Optional] = {
        "message": _MESSAGE,
        "type": js.TEXT,
        "param": js.or_null(js.TEXT),
        "code": js.TEXT,
    }
    if dialect is AZURE_V1:
        shared |= {"param": js.Optional(js.TEXT), "inner_error": _INNER}
    return _enveloped(shared)


def arm_error() -> js.Schema:
    return _enveloped(
        {
            "code": js.TEXT,
            "message": _MESSAGE,
            "target": js.Optional(js.TEXT),
            "details": js.Optional(js.listed(js.ANY)),
        }
    )


def _enveloped(fields: js.Fields) -> js.Schema:
    return js.thing({"error": js.thing(fields)})
