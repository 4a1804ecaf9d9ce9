"""Removes the nulls that pyarrow fills in: a column of objects has every key of any of them, null where one has it not.

`datasets.Dataset.from_list` and pandas' Parquet do so to tools: each schema then has the properties and keywords of all
others, with null for a value, and arguments that are objects the names of all others' arguments. Used by
`data/repair/tool_repair.py`, and by `tool_definitions` to name the fault.
"""

from collections.abc import Mapping

_NULL_IS_A_VALUE = ("default", "const")
_ONE = ("items", "additionalProperties", "not", "contains")
_MANY = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")

JsonObject = Mapping[str, object]


def strip_schema(schema: JsonObject) -> dict[str, object]:
    """A copy of a schema without filled-in nulls. `default` and `const` may be null; beside other nulls they go too."""
    filled = any(value is None and key not in _NULL_IS_A_VALUE for key, value in schema.items())
    stripped: dict[str, object] = {}
    for key, value in schema.items():
        if value is None and (filled or key not in _NULL_IS_A_VALUE):
            continue
        if key in _ONE and isinstance(value, Mapping):
            stripped[key] = strip_schema(value)
        elif key in _MANY and isinstance(value, list):
            stripped[key] = [strip_schema(item) if isinstance(item, Mapping) else item for item in value]
        elif key in _NAMED and isinstance(value, Mapping):
            stripped[key] = {
                name: strip_schema(item) if isinstance(item, Mapping) else item
                for name, item in value.items()
                if item is not None
            }
        else:
            stripped[key] = value
    return stripped


def strip_arguments(arguments: JsonObject, parameters: JsonObject) -> dict[str, object]:
    """A copy of a call's arguments without the nulls that the tool's parameters have no place for."""
    properties = parameters.get("properties")
    if not isinstance(properties, Mapping):
        return dict(arguments)
    stripped: dict[str, object] = {}
    for name, value in arguments.items():
        schema = properties.get(name)
        if value is None and not _takes_null(schema):
            continue
        inner = isinstance(value, Mapping) and isinstance(schema, Mapping)
        stripped[name] = strip_arguments(value, schema) if inner else value  # type: ignore[arg-type]
    return stripped


def _takes_null(schema: object) -> bool:
    """Whether a property's schema allows null, or has no type so that it may; False for no schema."""
    if not isinstance(schema, Mapping):
        return False
    types = schema.get("type")
    return types is None or "null" in (types if isinstance(types, list) else [types]) or schema.get("nullable") is True
