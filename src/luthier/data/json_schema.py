"""Which JSON schemas an answer can be held to, and the form of a schema that a grammar takes."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MAX_DEPTH = 64
TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
_COMMENTS = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "readOnly", "writeOnly",
             "deprecated"}  # fmt: skip
_PLAIN = {"const", "required", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
          "multipleOf", "minItems", "maxItems", "minProperties", "maxProperties"}  # fmt: skip
_ONE = {"items", "additionalProperties"}
_MANY = {"anyOf", "oneOf", "allOf", "prefixItems"}
_NAMED = {"properties", "patternProperties", "$defs", "definitions"}
_NO_GRAMMAR_OF = re.compile(r"\(\?[=!<]|\\[1-9bB]")
"""Lookaround, back references and word boundaries: no regular language, or none that the grammar's engine takes."""

Schema = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Unusable(Exception):
    """A schema that no answer can be held to; `path` is relative to the schema."""

    path: str
    message: str


def usable(schema: Schema, strict: bool) -> dict[str, object]:
    """The schema as the grammar of an answer takes it.

    A keyword that no grammar knows raises Unusable where the caller asked for strictness; otherwise nothing was
    promised, and the answer is held to the rest. Raises Unusable for what is no schema at all.
    """
    taken = _taken(schema, "", 0, schema, strict)
    assert isinstance(taken, dict)
    return taken


def _taken(schema: object, path: str, depth: int, root: Schema, strict: bool) -> dict[str, object] | bool:
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, Mapping):
        raise Unusable(path, "a schema is a JSON object or a boolean")
    if depth > MAX_DEPTH:
        raise Unusable(path, f"the schema is nested more than {MAX_DEPTH} deep")

    def inner(value: object, place: str) -> dict[str, object] | bool:
        return _taken(value, place, depth + 1, root, strict)

    taken: dict[str, object] = {}
    for key, value in schema.items():
        place = f"{path}.{key}"
        if key in _COMMENTS:
            continue
        if key in _ONE:
            taken[key] = inner(value, place)
        elif key in _MANY:
            taken["anyOf" if key == "oneOf" else key] = _list(key, value, place, inner, strict)
        elif key in _NAMED:
            if not isinstance(value, Mapping):
                raise Unusable(place, f"{key} is an object of schemas")
            taken[key] = {name: inner(item, f"{place}.{name}") for name, item in value.items()}
        elif _holds(key, value, place, root, strict):
            taken[key] = value
    return taken


def _list(
    key: str, value: object, place: str, inner: Callable[[object, str], dict[str, object] | bool], strict: bool
) -> list[dict[str, object] | bool]:
    if not isinstance(value, list) or not value:
        raise Unusable(place, f"{key} is a list of schemas, and not an empty one")
    if key == "oneOf" and strict:
        raise Unusable(place, "oneOf cannot be held to; write anyOf")
    return [inner(item, f"{place}[{index}]") for index, item in enumerate(value)]


def _holds(key: str, value: object, place: str, root: Schema, strict: bool) -> bool:
    """Whether a keyword goes into the grammar; raises Unusable where it must and cannot."""
    match key:
        case "type":
            named = value if isinstance(value, list) else [value]
            if not named or not all(name in TYPES for name in named):
                raise Unusable(place, f"type is one or more of {', '.join(TYPES)}")
            return True
        case "$ref":
            if not isinstance(value, str) or not _resolves(value, root):
                raise Unusable(place, "$ref points to nothing within this schema")
            return True
        case "enum":
            if not isinstance(value, list) or not value:
                raise Unusable(place, "enum is a list of values, and not an empty one")
            return True
        case "format":
            known, instead = value in FORMATS, f"of formats, {', '.join(FORMATS)} can be held to"
        case "pattern":
            known, instead = _is_regular(value), "this pattern is no regular expression that an answer can be held to"
        case _:
            known, instead = key in _PLAIN, f"{key!r} cannot be held to; leave it out"
    if strict and not known:
        raise Unusable(place, instead)
    return known


def _is_regular(pattern: object) -> bool:
    if not isinstance(pattern, str) or _NO_GRAMMAR_OF.search(pattern):
        return False
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _resolves(reference: str, root: Schema) -> bool:
    if not reference.startswith("#"):
        return False
    found: object = root
    for part in filter(None, reference[1:].split("/")):
        name = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or name not in found:
            return False
        found = found[name]
    return isinstance(found, Mapping | bool)
