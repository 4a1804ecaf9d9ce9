"""Odd schemas just within and just beyond the bounds: a table for tests and for benches, every size a harmless one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from luthier.data.schemas import regex_support, schema_limits

TEXT = {"type": "string"}
Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OddSchema:
    """`refused` is the code of the 400 that it gets; None for one that an answer can be held to."""

    name: str
    schema: Schema
    refused: str | None = None


def _object(properties: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


def _named(n: int, schema: Schema = TEXT) -> dict[str, Schema]:
    return {f"p{place}": schema for place in range(n)}


def _nested(depth: int) -> Schema:
    schema: Schema = TEXT
    for _ in range(depth):
        schema = _object({"a": schema})
    return schema


def _ways(n: int) -> Schema:
    return {"anyOf": [{"type": "object", "properties": {f"k{place}": {"const": 1}}} for place in range(n)]}


def _pairs() -> list[tuple[str, Schema, Schema]]:
    """The same schema within a bound and one beyond it."""
    bounds = schema_limits
    return [
        ("properties", _object(_named(bounds.MAX_PROPERTIES)), _object(_named(bounds.MAX_PROPERTIES + 1))),
        (
            "optional properties",
            {"type": "object", "properties": _named(bounds.MAX_OPTIONAL), "additionalProperties": False},
            {"type": "object", "properties": _named(bounds.MAX_OPTIONAL + 1), "additionalProperties": False},
        ),
        ("depth", _nested(bounds.MAX_DEPTH), _nested(bounds.MAX_DEPTH + 1)),
        (
            "enum",
            {"enum": [f"v{place}" for place in range(bounds.MAX_ENUM_VALUES)]},
            {"enum": [f"v{place}" for place in range(bounds.MAX_ENUM_VALUES + 1)]},
        ),
        ("characters", {"const": "x" * bounds.MAX_CHARACTERS}, {"const": "x" * (bounds.MAX_CHARACTERS + 1)}),
        (
            "branches",
            {"anyOf": [_object({f"k{place}": TEXT}) for place in range(bounds.MAX_BRANCHES)]},
            {"anyOf": [_object({f"k{place}": TEXT}) for place in range(bounds.MAX_BRANCHES + 1)]},
        ),
        ("combinations", {"allOf": [_ways(4), _ways(4)]}, {"allOf": [_ways(13), _ways(5)]}),
        (
            "minItems",
            {"type": "array", "minItems": bounds.MAX_LEAST},
            {"type": "array", "minItems": bounds.MAX_LEAST + 1},
        ),
        (
            "minLength",
            {"type": "string", "minLength": bounds.MAX_LEAST},
            {"type": "string", "minLength": bounds.MAX_LEAST + 1},
        ),
        (
            "divisor",
            {"type": "integer", "multipleOf": bounds.MAX_DIVISOR - 3},
            {"type": "integer", "multipleOf": bounds.MAX_DIVISOR + 1},
        ),
        ("digits", {"type": "integer", "maximum": 10**14}, {"type": "integer", "maximum": 10**18}),
        (
            "patterns",
            _object(_named(bounds.MAX_PATTERNS, {"type": "string", "pattern": "^[a-z]{1,8}$"})),
            _object(_named(bounds.MAX_PATTERNS + 1, {"type": "string", "pattern": "^[a-z]{1,8}$"})),
        ),
        (
            "pattern's characters",
            {"type": "string", "pattern": "^" + "a" * (regex_support.MAX_CHARACTERS - 1)},
            {"type": "string", "pattern": "^" + "a" * regex_support.MAX_CHARACTERS},
        ),
        (
            "pattern's repetitions",
            {"type": "string", "pattern": "^([a-z]{1,20}-){1,90}$"},
            {"type": "string", "pattern": "^([a-z]{1,20}-){1,100}$"},
        ),
        (
            "pattern's groups",
            {"type": "string", "pattern": "^" + "(" * 31 + "a" + ")" * 31},
            {"type": "string", "pattern": "^" + "(" * 33 + "a" + ")" * 33},
        ),
    ]


def _plain() -> list[tuple[str, Schema]]:
    tree = {
        "$ref": "#/$defs/n",
        "$defs": {"n": _object({"v": TEXT, "c": {"type": "array", "items": {"$ref": "#/$defs/n"}}})},
    }
    formats = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
    return [
        ("anything", {}),
        ("any object", {"type": "object"}),
        ("a word", TEXT),
        ("a number", {"type": "number"}),
        ("nothing", {"type": "null"}),
        ("formats", _object({name: {"type": "string", "format": name} for name in formats})),
        ("recursion", tree),
        ("long text", {"type": "string", "maxLength": 2**31}),
        ("long array", {"type": "array", "items": {"type": "boolean"}, "maxItems": 10**6}),
        (
            "arrays of arrays",
            {"type": "array", "maxItems": 30, "items": {"type": "array", "items": TEXT, "maxItems": 30}},
        ),
        ("a date by pattern", {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}),
        ("an open pattern", {"type": "string", "pattern": r"\d{4}-\d{2}"}),
        ("letters of any script", {"type": "string", "pattern": r"^\p{L}{1,20}$"}),
        ("several types", {"type": ["string", "null", "integer"]}),
        ("tuple", {"type": "array", "prefixItems": [TEXT, {"type": "integer"}], "items": False, "minItems": 2}),
        ("cents", {"type": "number", "multipleOf": 0.01, "minimum": 0, "maximum": 1000}),
        ("names by pattern", {"type": "object", "patternProperties": {"^x-": TEXT}, "additionalProperties": False}),
        ("one of", {"oneOf": [TEXT, {"type": "integer"}]}),
    ]


def _refused() -> list[tuple[str, Schema, str]]:
    invalid, unknown = "invalid_json_schema", "schema_not_supported"
    return [
        ("a reference to itself", {"$ref": "#"}, invalid),
        ("half a character", {"enum": ["\ud800"]}, invalid),
        ("a negative length", {"type": "string", "minLength": -1}, invalid),
        ("a contradiction", {"type": "object", "properties": {"a": False}, "required": ["a"]}, unknown),
        ("an anchor in the middle", {"type": "string", "pattern": "a^b"}, unknown),
        # Within every bound, and yet a grammar of thousands of states after a few tokens.
        ("an open repetition", {"type": "string", "pattern": "^.*[a-c].{24}$"}, schema_limits.COMPLEX),
    ]


ODD = (
    *(OddSchema(f"{name} within", within) for name, within, _ in _pairs()),
    *(OddSchema(f"{name} beyond", beyond, schema_limits.COMPLEX) for name, _, beyond in _pairs()),
    *(OddSchema(name, schema) for name, schema in _plain()),
    *(OddSchema(name, schema, code) for name, schema, code in _refused()),
)
"""All of them, by unique names."""


def response_format(schema: Schema) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "odd", "schema": schema}}
