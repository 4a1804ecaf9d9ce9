"""What is wrong with a value in a file or a variable, in our words, by the kinds of pydantic's faults.

A fault is a row of `ValidationError.errors()`. The words never hold the value: the caller knows if it may be shown.
Used for settings, catalog files and command-line values.
"""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "path_type": "must be a path",
    "list_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "frozen_set_type": "must be a list",
    "tuple_type": "must be a list",
    "finite_number": "must be a finite number",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "string_pattern_mismatch": "must match {pattern}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "union_tag_invalid": "must have a {discriminator} of {expected_tags}",
    "union_tag_not_found": "must have a {discriminator}",
}
_PREFIXES = {"int": "must be a whole number", "float": "must be a number"}


def words(fault: Mapping[str, Any]) -> str:
    """The fault as the end of a sentence whose subject is the value's name; general words for an unknown kind.

    A ValueError of our own validators keeps its text.
    """
    kind = str(fault["type"])
    if kind in _WORDS:
        return _WORDS[kind].format(**fault.get("ctx", {}))
    if kind == "value_error":
        return str(fault["msg"]).removeprefix("Value error, ")
    return _PREFIXES.get(kind.partition("_")[0], "has a value that cannot be used")


def place(fault: Mapping[str, Any]) -> str:
    """The name of the value: `model[2].lora.rank`, counted from 1 as a reader of the file counts; "" for the whole."""
    name = ""
    for part in fault["loc"]:
        name += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return name


def meant(name: str, known: Collection[str]) -> str:
    """` (did you mean NAME?)` for a name that is nearly one of the known ones; else an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
    return f" (did you mean {near[0]}?)" if near else ""
