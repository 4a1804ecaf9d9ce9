"""Short functions that write JSON Schema, for what no answer type describes: forms, headers, plain JSON.

Each returns a new dict. The declarations of routes use them; the OpenAPI document shows the result.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
UNIX: Schema = {"type": "integer", "description": "Seconds since 1970, UTC."}
BYTES: Schema = {"type": "string", "format": "binary"}
ANY: Schema = {}


@dataclass(frozen=True, slots=True)
class Maybe:
    """A field that only some answers have; it may be null."""

    schema: Schema


Fields = Mapping[str, Schema | Maybe]


def object_schema(fields: Fields, description: str | None = None) -> Schema:
    """An object with these fields, required unless they are Maybe; `description` None leaves that keyword out."""
    required = [name for name, field in fields.items() if not isinstance(field, Maybe)]
    properties = {name: or_null(field.schema) if isinstance(field, Maybe) else field for name, field in fields.items()}
    schema: Schema = {"type": "object", "properties": properties, "required": required}
    return schema if description is None else schema | {"description": description}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def either(*schemas: Schema) -> Schema:
    """The schema that a value fits if it fits one of these."""
    return {"anyOf": list(schemas)}


def const(value: object) -> Schema:
    """The schema that only this value fits."""
    return {"const": value}


def enum(values: Iterable[object]) -> Schema:
    """One of a closed set of strings, each once, in the given order."""
    return {"type": "string", "enum": list(dict.fromkeys(str(value) for value in values))}


def listed(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def mapped(value: Schema) -> Schema:
    """An object with keys of the caller's choice."""
    return {"type": "object", "additionalProperties": value}


def header(name: str, description: str) -> Schema:
    """An optional request header, as a parameter of an operation."""
    return {"name": name, "in": "header", "required": False, "schema": TEXT, "description": description}
