"""JSON Schema of a tool's parameters: whether it is one, and whether the arguments of a call satisfy it."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

import jsonschema_rs

from luthier.data import place

MAX_FINDINGS = 20
_KEPT = 1024
"""Files repeat the same few tools in all rows; a schema is compiled once for so many different ones."""

_BROKEN = {
    "required": ("a required argument is missing.", "Add it, or take it out of required."),
    "type": ("a value has not the type that the schema gives.", "Write a value of that type, or mend the schema."),
    "enum": ("a value is none of those that the schema lists.", "Write one of them, or add it to enum."),
    "const": ("a value is not the one that the schema gives.", "Write that value, or mend the schema."),
    "additionalProperties": ("an argument is not in the schema.", "Remove it, or add it to properties."),
    "pattern": ("a text has not the pattern that the schema gives.", "Mend the text, or the pattern."),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault in a schema or in arguments; `path` is relative to it, and shows no key of the user's."""

    path: str
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema that arguments can be held to."""

    validator: jsonschema_rs.Validator

    def findings(self, arguments: Mapping[str, object]) -> list[Finding]:
        """What in the arguments breaks the schema, at most MAX_FINDINGS."""
        found = []
        for error in islice(self.validator.iter_errors(arguments), MAX_FINDINGS):
            keyword = next((part for part in reversed(error.schema_path) if isinstance(part, str)), "schema")
            other = (f"a value breaks {keyword} of the schema.", "Mend the value, or the schema.")
            message, fix = _BROKEN.get(keyword, other if keyword in place.WORDS | _KEYWORDS else _BROKEN_SOMEHOW)
            found.append(Finding(_place(arguments, error.instance_path), message, fix))
        return found


_BROKEN_SOMEHOW = ("the arguments break the schema.", "Mend the arguments, or the schema.")
_KEYWORDS = frozenset(
    """
    minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength minItems maxItems uniqueItems
    minProperties maxProperties contains propertyNames not if then else dependentRequired unevaluatedProperties
    unevaluatedItems prefixItems
    """.split()  # noqa: SIM905
)


def read(parameters: Mapping[str, object]) -> Schema | Finding:
    """The schema, or what is wrong with it. Nothing outside of it is ever fetched: a $ref leads into it alone."""
    return _read(json.dumps(parameters))


@functools.lru_cache(_KEPT)
def _read(text: str) -> Schema | Finding:
    parameters = json.loads(text)
    try:
        return Schema(jsonschema_rs.validator_for(parameters, offline=True))
    except jsonschema_rs.ReferencingError:
        return Finding("", "a $ref leads outside of the schema, or nowhere.", "Put what it names under $defs.")
    except jsonschema_rs.ValidationError as error:
        if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Referencing):
            return Finding("", "a $ref leads outside of the schema, or nowhere.", "Put what it names under $defs.")
        where = _place(parameters, error.instance_path)
        return Finding(where, "this is no JSON Schema.", "Mend it; json-schema.org describes each keyword.")
    except ValueError:
        return Finding("", "this is no JSON Schema that is known.", "Leave $schema out, or name draft 2020-12.")


def _place(value: object, steps: list[str | int]) -> str:
    path = ""
    for step in steps:
        if isinstance(value, Mapping) and isinstance(step, str):
            path = place.inside(path, step, list(value).index(step)) if step in value else path
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int):
            path += f"[{step}]"
            value = value[step] if step < len(value) else None
    return path
