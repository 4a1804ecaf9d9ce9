"""JSON Schema of a tool's parameters in a training row: whether it is one, and whether a call's arguments satisfy it.

Used by `data/rows/` only; schemas of API requests go through `response_schema`.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jsonschema_rs

from luthier.data.problems import json_path
from luthier.data.schemas import regex_support, schema_cost
from luthier.data.tools import arrow_nulls

MAX_FAULTS = 20
_CACHED_SCHEMAS = 1024
"""Files repeat the same few tools in all rows; a schema is compiled once for so many different ones."""

_PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000, size_limit=2 << 20, dfa_size_limit=2 << 20)

_VIOLATIONS = {
    "required": ("a required argument is missing.", "Add it, or take it out of required."),
    "type": ("a value does not have the type that the schema gives.", "Write a value of that type, or fix the schema."),
    "enum": ("a value is none of those that the schema lists.", "Write one of them, or add it to enum."),
    "const": ("a value is not the one that the schema gives.", "Write that value, or fix the schema."),
    "additionalProperties": ("an argument is not in the schema.", "Remove it, or add it to properties."),
    "pattern": ("a string does not match the pattern of the schema.", "Fix the string, or the pattern."),
}


@dataclass(frozen=True, slots=True)
class SchemaFault:
    """A fault in a schema or in arguments; `path` is relative to it, and shows a user's own key only by position."""

    path: str
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class ParameterSchema:
    """A compiled schema that arguments of calls can be validated against."""

    validator: jsonschema_rs.Validator

    def violations(self, arguments: Mapping[str, object]) -> list[SchemaFault]:
        """What in the arguments breaks the schema, at most MAX_FAULTS; [] for valid ones."""
        faults = []
        for error in islice(self.validator.iter_errors(arguments), MAX_FAULTS):
            keyword = next((part for part in reversed(error.schema_path) if isinstance(part, str)), "schema")
            other = (f"a value breaks {keyword} of the schema.", "Fix the value, or the schema.")
            message, fix = _VIOLATIONS.get(
                keyword, other if keyword in json_path.SHOWN_KEYS | _KEYWORDS else _OTHER_VIOLATION
            )
            faults.append(SchemaFault(_instance_path(arguments, error.instance_path), message, fix))
        return faults


_ARROW_NULL = (
    "null is used where a schema has a value: pyarrow (datasets, pandas) fills it in for what only other tools have.",
    "Remove each key with null; `luthier check --fix` does so.",
)
_OTHER_VIOLATION = ("the arguments break the schema.", "Fix the arguments, or the schema.")
_KEYWORDS = frozenset(
    """
    minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength minItems maxItems uniqueItems
    minProperties maxProperties contains propertyNames not if then else dependentRequired unevaluatedProperties
    unevaluatedItems prefixItems
    """.split()  # noqa: SIM905
)


def compile_schema(parameters: Mapping[str, object]) -> ParameterSchema | SchemaFault:
    """The compiled schema, or what is wrong with it; never raises for its content.

    Fetches nothing: a $ref leads into it only.
    """
    return _compile_text(json.dumps(parameters))


@functools.lru_cache(_CACHED_SCHEMAS)
def _compile_text(text: str) -> ParameterSchema | SchemaFault:
    """The same of a schema as JSON text, cached by that text."""
    parameters = json.loads(text)
    try:
        schema_cost.check_visits(parameters)
        checked = _without_heavy_patterns(parameters)
        return ParameterSchema(jsonschema_rs.validator_for(checked, offline=True, pattern_options=_PATTERNS))
    except schema_cost.TooManyVisits:
        message = "a $ref leads back to itself, or a check against it takes too many steps."
        return SchemaFault("", message, "Put an object or an array between, and name what is used twice once.")
    except schema_cost.UnresolvedReference:
        return SchemaFault("", "a $ref leads outside of the schema, or nowhere.", "Put what it names under $defs.")
    except jsonschema_rs.ReferencingError:
        return SchemaFault("", "a $ref leads outside of the schema, or nowhere.", "Put what it names under $defs.")
    except jsonschema_rs.ValidationError as error:
        if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Referencing):
            return SchemaFault("", "a $ref leads outside of the schema, or nowhere.", "Put what it names under $defs.")
        where = _instance_path(parameters, error.instance_path)
        if arrow_nulls.strip_schema(parameters) != parameters:
            return SchemaFault(where, *_ARROW_NULL)
        return SchemaFault(where, "this is not a JSON Schema.", "Fix it; json-schema.org describes each keyword.")
    except ValueError:
        return SchemaFault("", "this is not a JSON Schema that is known.", "Leave $schema out, or name draft 2020-12.")


def _without_heavy_patterns(schema: Any) -> Any:
    """A copy without patterns that take long to compile: strings are not checked against those."""
    if isinstance(schema, Mapping):
        keywords = {key: _without_heavy_patterns(value) for key, value in schema.items() if not _is_heavy(key, value)}
        by_name = keywords.get("patternProperties")
        if isinstance(by_name, Mapping) and any(_is_heavy("pattern", name) for name in by_name):
            # Which names they are for is unknown then.
            for key in ("patternProperties", "additionalProperties", "unevaluatedProperties"):
                keywords.pop(key, None)
        return keywords
    return [_without_heavy_patterns(item) for item in schema] if isinstance(schema, list) else schema


def _is_heavy(key: str, value: object) -> bool:
    """Whether a keyword is a `pattern` that may take long to compile."""
    return key == "pattern" and isinstance(value, str) and regex_support.is_heavy(value)


def _instance_path(value: object, steps: list[str | int]) -> str:
    """The validator's steps into a value as a path such as `a[0].b`, a user's own keys by their position."""
    path = ""
    for step in steps:
        if isinstance(value, Mapping) and isinstance(step, str):
            path = json_path.member_path(path, step, list(value).index(step)) if step in value else path
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int):
            path += f"[{step}]"
            value = value[step] if step < len(value) else None
    return path
