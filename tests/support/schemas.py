"""JSON against a JSON schema or a schema of OpenAPI, as far as the published schemas go; every fault with its path."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from repository import SPEC_FOLDER

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_CHECKED = {"type", "nullable", "enum", "const", "properties", "required", "items", "anyOf", "oneOf", "allOf", "$ref",
            "additionalProperties", "minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength"}  # fmt: skip
_SAYS_NOTHING = {"description", "title", "default", "example", "examples", "format", "deprecated", "discriminator",
                 "readOnly"}  # fmt: skip


def published(name: str) -> Mapping[str, Any]:
    """A document of the published schemas; where they are not at hand, the test is skipped."""
    path = SPEC_FOLDER / name
    if not path.exists():
        pytest.skip(f"{name} is not in {SPEC_FOLDER} (LUTHIER_SPEC_DIR)")
    document = json.loads(path.read_text())
    assert isinstance(document, dict)
    return document


def faults(value: object, schema: Mapping[str, Any], root: Mapping[str, Any], path: str = "$") -> Iterator[str]:
    """Raises KeyError for a keyword that this check does not know: it never passes one over."""
    for key in schema.keys() - _CHECKED - _SAYS_NOTHING:
        if not key.startswith("x-"):
            raise KeyError(f"{path}: keyword {key}")
    if schema.get("nullable") and value is None:
        return
    if "$ref" in schema:
        yield from faults(value, _resolved(schema["$ref"], root), root, path)
    if "type" in schema and not _is_of(value, schema["type"]):
        yield f"{path}: {value!r} is not of type {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{path}: {value!r} is not {schema['const']!r}"
    for part in schema.get("allOf", ()):
        yield from faults(value, part, root, path)
    for key in ("anyOf", "oneOf"):
        if key in schema and all(list(faults(value, part, root, path)) for part in schema[key]):
            yield f"{path}: {value!r} fits none of {key}"
    yield from _size_faults(value, schema, path)
    if isinstance(value, dict):
        yield from _object_faults(value, schema, root, path)
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from faults(item, schema["items"], root, f"{path}[{index}]")


def _object_faults(
    value: Mapping[str, object], schema: Mapping[str, Any], root: Mapping[str, Any], path: str
) -> Iterator[str]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path}.{name} is missing"
    for name, item in value.items():
        others = schema.get("additionalProperties", True)
        if name in properties:
            yield from faults(item, properties[name], root, f"{path}.{name}")
        elif others is False:
            yield f"{path}.{name} is not allowed"
        elif isinstance(others, dict):
            yield from faults(item, others, root, f"{path}.{name}")


def _size_faults(value: object, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{path}: {value!r} is out of range"
    for kind, least, most in ((str, "minLength", "maxLength"), (list, "minItems", "maxItems")):
        if isinstance(value, kind) and not schema.get(least, 0) <= len(value) <= schema.get(most, len(value)):
            yield f"{path} has a length of {len(value)}"


def _is_of(value: object, named: str | list[str]) -> bool:
    names = [named] if isinstance(named, str) else named
    return any(isinstance(value, _TYPES[name]) and (not isinstance(value, bool) or name == "boolean") for name in names)


def _resolved(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    assert isinstance(found, dict)
    return found
