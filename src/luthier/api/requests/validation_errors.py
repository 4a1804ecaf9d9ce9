"""Validation errors of a body or query in our own messages: no sentence of pydantic reaches a caller.

`invalid_request` makes the 400 of them. `loc` in pydantic's errors begins with `body` or `query`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from luthier.api.requests import field_hints
from luthier.core.errors import ErrorDetail, InvalidRequest

PydanticError = Mapping[str, Any]
Location = tuple[int | str, ...]

MAX_PATH_CHARACTERS = 256
"""Of the path of a field: names in it are the caller's, of any length."""
MAX_VALUE_CHARACTERS = 40
"""Of a value that a message repeats."""
_MODEL = re.compile(r"[A-Z]\w*(Part|Tool|Choice|Name|Body|Message)")
_BRANCH = re.compile(
    rf"(str|int|float|bool|none|dict|list)|[\w-]+\[.*\]|(constrained|function|lax-or-strict|nullable)-.*"
    rf"|{_MODEL.pattern}",
    re.DOTALL,
)
"""How pydantic names the branch of a union in an error's location: not a field of the body."""

_EXPECTED = {
    "string_type": "text",
    "string_unicode": "valid Unicode text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "none_required": "null",
}
"""What is expected, by pydantic's type of error."""
_BOUNDS = {
    "greater_than_equal": ("ge", "it must be {} or more"),
    "greater_than": ("gt", "it must be more than {}"),
    "less_than_equal": ("le", "it must be {} or less"),
    "less_than": ("lt", "it must be less than {}"),
    "string_too_short": ("min_length", "it must have {} characters or more"),
    "string_too_long": ("max_length", "it must have {} characters or fewer"),
    "too_short": ("min_length", "it must have {} entries or more"),
    "too_long": ("max_length", "it must have at most {} entries"),
}
_NO_BODY = "the request has no body; send a JSON object with the header content-type: application/json"
_NO_CONTENT_TYPE = "the body has no header content-type: application/json; send that header"


def details(errors: Sequence[PydanticError], body: type[BaseModel] | None) -> list[ErrorDetail]:
    """One detail for each path with errors, in the order of the body, whose model is `body` (None: a query).

    A union tries each of its branches: what they expect is one message, which is left out if a deeper path has errors.
    """
    by_path: dict[str, list[PydanticError]] = {}
    for error in _without_other_branches(errors):
        by_path.setdefault(_path(error["loc"]), []).append(error)
    deeper = {path for path in by_path if any(other.startswith((f"{path}.", f"{path}[")) for other in by_path)}
    return [
        _detail(path, errors_at_path, body)
        for path, errors_at_path in by_path.items()
        if path not in deeper or not all(error["type"] in _EXPECTED for error in errors_at_path)
    ]


def invalid_request(errors: Sequence[PydanticError], body: type[BaseModel] | None) -> InvalidRequest:
    """The 400 for these errors: code and param are the first one's; the message has up to ten, the details all."""
    found = details(errors, body)
    messages = (f"{detail.param or 'body'}: {detail.message}" for detail in found[:10])
    text = " ".join(sentence if sentence.endswith(("?", ".")) else f"{sentence}." for sentence in messages)
    return InvalidRequest(found[0].code, text, found[0].param, found)


def _without_other_branches(errors: Sequence[PydanticError]) -> list[PydanticError]:
    """The errors without those of union branches that the value's own `type` excludes.

    Where `type` names no branch at all, the errors that say which values it may have stay: they are the fault.
    """
    others = set()
    for error in errors:
        loc = error["loc"]
        if error["type"] == "literal_error" and loc[-1] == "type" and _is_model(loc[-2]):
            others.add(loc[:-1])
    unions = {branch[:-1] for branch in others}
    kept = []
    for error in errors:
        loc = error["loc"]
        ends = [end for end in range(2, len(loc)) if loc[: end - 1] in unions and _is_model(loc[end - 1])]
        if (
            not ends
            or not any(loc[:end] in others for end in ends)
            or (error["type"] == "literal_error" and not _has_matching_branch(errors, loc[: ends[0] - 1], others))
        ):
            kept.append(error)
    return kept


def _has_matching_branch(errors: Sequence[PydanticError], union: Location, others: set[Location]) -> bool:
    """Whether a branch of the union is left that matches the value's `type`."""
    depth = len(union)
    return any(
        error["loc"][:depth] == union
        and len(error["loc"]) > depth + 1
        and _is_model(error["loc"][depth])
        and error["loc"][: depth + 1] not in others
        for error in errors
    )


def _is_model(part: object) -> bool:
    """Whether a part of a location is the name of one of our models: the branch of a union, and no field."""
    return isinstance(part, str) and _MODEL.fullmatch(part) is not None


def _path(loc: Location) -> str:
    """The location as the caller writes it, `messages[0].content`, cut if very long; empty for the whole body."""
    path = ""
    for part in loc[1:]:
        if isinstance(part, str) and _BRANCH.fullmatch(part):
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    path = _encodable(path)
    return path if len(path) <= MAX_PATH_CHARACTERS else f"{path[:MAX_PATH_CHARACTERS]}..."


def _detail(path: str, errors: Sequence[PydanticError], body: type[BaseModel] | None) -> ErrorDetail:
    """The finding at a path with errors: missing, unknown, refused by a check of ours, or of the wrong kind."""
    first = errors[0]
    kinds = [error["type"] for error in errors]
    if "missing" in kinds:
        return ErrorDetail("missing_field", "this field is required" if path else _NO_BODY, path or None)
    if "extra_forbidden" in kinds:
        hint = field_hints.hint_for_field(body, [part for part in first["loc"][1:] if not _is_model(part)])
        return ErrorDetail("unknown_field", hint or "unknown or unsupported field", path)
    own_messages = [error["msg"].removeprefix("Value error, ") for error in errors if error["type"] == "value_error"]
    if own_messages:
        return ErrorDetail("invalid_value", own_messages[0], path or None)
    if not path and isinstance(first.get("input"), bytes):
        return ErrorDetail("invalid_value", _NO_CONTENT_TYPE, None)
    bounds = [_bound(error) for error in errors if error["type"] not in _EXPECTED and error["type"] != "literal_error"]
    expected = list(dict.fromkeys(text for error in errors if (text := _expected(error))))
    text = f"{_describe_value(first.get('input'))} was sent"
    if bounds:
        text += f"; {bounds[0]}"
    else:
        text += f"; it must be {' or '.join(expected)}"
    if hint := field_hints.hint_for_value(body, path, first.get("input")):
        text += f": {hint}"
    return ErrorDetail("invalid_value", text, path or None)


def _expected(error: PydanticError) -> str | None:
    """What a value should have been, in a few words; None for errors that are not about its type."""
    if error["type"] == "literal_error":
        expected: str = error["ctx"]["expected"]
        return expected
    return _EXPECTED.get(error["type"])


def _bound(error: PydanticError) -> str:
    """What a value's bound or pattern demands, as a sentence without its subject's name."""
    kind, context = error["type"], error.get("ctx") or {}
    if kind in _BOUNDS:
        name, template = _BOUNDS[kind]
        return "it must not be empty" if name == "min_length" and context[name] == 1 else template.format(context[name])
    if kind == "string_pattern_mismatch":
        return f"it must match {context['pattern']}"
    return "this value cannot be used"


def _describe_value(value: object) -> str:
    """The value that was sent, as JSON if it is short, else what kind of value it is."""
    match value:
        case dict():
            return "an object"
        case list():
            return f"a list of {len(value)}"
        case str() if len(value) > MAX_VALUE_CHARACTERS:
            return f"a text of {len(value)} characters"
        case bytes():
            return "bytes"
        case None | bool() | int() | float() | str():
            text = _encodable(json.dumps(value, ensure_ascii=False))
            return text if len(text) <= 6 * MAX_VALUE_CHARACTERS else "a long number"
        case _:
            return "a value of another type"


def _encodable(text: str) -> str:
    """The text with half surrogate pairs escaped: JSON can contain them, and UTF-8 cannot encode them."""
    return text.encode("utf-8", "backslashreplace").decode()
