"""Closes a schema: its objects may have only the properties that they name, unless it says otherwise.

Done to the schemas of API requests before a grammar is made of them. JSON Schema allows any further property if
`additionalProperties` is absent. A small model constrained by such a schema invents them, and some of them twice;
whoever calls a function with what came has no parameter for them.
"""

from collections.abc import Iterator, Mapping

_ONE = ("items", "additionalProperties")
_MANY = ("anyOf", "allOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_LIMITS_EXTRA = {"additionalProperties", "patternProperties", "minProperties"}
_CONSTRAINS = {"properties", "anyOf", "allOf", "$ref", "enum", "const"}

Schema = Mapping[str, object]


def close_schema(schema: Schema) -> dict[str, object]:
    """A copy with `additionalProperties: false` at each object that names its properties and says nothing of more.

    `schema` is in the form of `response_schema.grammar_schema`. One that combines several schemas into an object stays
    as it is: each of them knows only some of the properties.
    """
    if any(_builds_of_several(node) for node in _nodes(schema)):
        return dict(schema)
    return _closed(schema)


def close_parameters(schema: Schema) -> dict[str, object]:
    """The same for a function's parameters, as type object: where they name no property, the function takes none."""
    closed = {"type": "object", **close_schema(schema)}
    if not (_LIMITS_EXTRA | _CONSTRAINS) & closed.keys() and not closed.get("required"):
        closed["additionalProperties"] = False
    return closed


def _closed(schema: Schema) -> dict[str, object]:
    """A copy of the schema with all objects within closed, and itself if `_names_all`."""
    closed = dict(schema)
    for key, value in schema.items():
        if key in _ONE:
            closed[key] = _inner(value)
        elif key in _MANY and isinstance(value, list):
            closed[key] = [_inner(item) for item in value]
        elif key in _NAMED and isinstance(value, Mapping):
            closed[key] = {name: _inner(item) for name, item in value.items()}
    if _names_all(schema):
        closed["additionalProperties"] = False
    return closed


def _inner(value: object) -> object:
    return _closed(value) if isinstance(value, Mapping) else value


def _names_all(schema: Schema) -> bool:
    """Whether an object schema names all that it requires, and says nothing itself of further properties."""
    properties, required = schema.get("properties"), schema.get("required", ())
    if not isinstance(properties, Mapping) or not isinstance(required, list | tuple):
        return False
    return not _LIMITS_EXTRA & schema.keys() and set(required) <= properties.keys()


def _builds_of_several(schema: Schema) -> bool:
    """Whether a schema puts one object together from several schemas: by allOf, or anyOf or $ref beside properties."""
    branches = schema.get("allOf")
    if isinstance(branches, list) and (len(branches) > 1 or {"properties", "anyOf", "$ref"} & schema.keys()):
        return True
    return "properties" in schema and bool({"anyOf", "$ref"} & schema.keys())


def _nodes(schema: Schema) -> Iterator[Schema]:
    """All subschemas of a schema, itself first."""
    waiting: list[object] = [schema]
    while waiting:
        value = waiting.pop()
        if not isinstance(value, Mapping):
            continue
        yield value
        for key, part in value.items():
            if key in _ONE:
                waiting.append(part)
            elif key in _MANY and isinstance(part, list):
                waiting += part
            elif key in _NAMED and isinstance(part, Mapping):
                waiting += part.values()
