"""JSON Schema in few words, and the two ways of saying that a value is not known: null, or nothing at all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
UNIX: Schema = {"type": "integer", "description": "Seconds since 1970, UTC."}
BYTES: Schema = {"type": "string", "format": "binary"}
ANY: Schema = {}


@dataclass(frozen=True, slots=True)
class Maybe:
    """A value that may not be known: null where the dialect keeps nulls, else left out."""

    schema: Schema


@dataclass(frozen=True, slots=True)
class Optional:
    """A field that only some answers have; null is allowed in it."""

    schema: Schema


Fields = Mapping[str, Schema | Maybe | Optional]


def thing(fields: Fields, keeps_null: bool = True, says: str | None = None) -> Schema:
    """An object with these fields: plain ones always there, the others as their kind says."""
    required = [name for name, kind in fields.items() if not isinstance(kind, Optional)]
    if not keeps_null:
        required = [name for name in required if not isinstance(fields[name], Maybe)]
    properties = {name: _property(kind, keeps_null) for name, kind in fields.items()}
    schema: Schema = {"type": "object", "properties": properties, "required": required}
    return schema if says is None else schema | {"description": says}


def _property(kind: Schema | Maybe | Optional, keeps_null: bool) -> Schema:
    match kind:
        case Maybe():
            return or_null(kind.schema) if keeps_null else kind.schema
        case Optional():
            return or_null(kind.schema)
        case _:
            return kind


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def either(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def const(value: object) -> Schema:
    return {"const": value}


def words(values: Iterable[object]) -> Schema:
    """One of a closed set of words, each once, in the order in which they are given."""
    return {"type": "string", "enum": list(dict.fromkeys(str(value) for value in values))}


def listed(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def mapped(value: Schema) -> Schema:
    """An object with keys of the caller's choice."""
    return {"type": "object", "additionalProperties": value}
