"""What a model may write, as a grammar of llguidance: calls of functions, JSON of a schema, or words."""

import json
from collections.abc import Mapping
from typing import Any

from luthier.data.tool_prompt import BEFORE_ARGUMENTS, HEAD, OPEN, TAIL

MAX_CALLS = 8
"""So many calls at most in one answer: a small model does not stop of its own accord."""
_SPACING = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
"""JSON as `tool_prompt` writes it, and so as a model is taught it."""


def of_answer(
    functions: Mapping[str, Mapping[str, Any]],
    *,
    must_call: bool,
    parallel: bool,
    schema: Mapping[str, Any] | None = None,
) -> str:
    """The grammar of an answer that calls one or more of the functions, or, unless it must call, says something.

    `functions` are names with the schemas of their arguments, `schema` is that of an answer in words (else any words
    will do), both in the form of `json_schema.usable`. An answer in words never begins as a call, so that
    `CallReader` can tell the two apart.
    """
    rules = []
    if functions:
        more = f' ("\\n" call){{0,{MAX_CALLS - 1}}}' if parallel else ""
        rules.append(f"calls: call{more}")
        rules.append("call: " + " | ".join(f"call_{place}" for place in range(len(functions))))
        rules += [_call(place, name, arguments) for place, (name, arguments) in enumerate(functions.items())]
    if schema is not None:
        rules.append(f"words: {_json_of(schema)}")
    elif not must_call:
        rules += ["words: WORDS", f"WORDS: /(?s:.*)/ & ~/{OPEN}(?s:.*)/"]
    start = "calls" if must_call else "words | calls" if functions else "words"
    return "\n".join(["%llguidance {}", f"start: {start}", *rules, ""])


def _call(place: int, name: str, arguments: Mapping[str, Any]) -> str:
    head = json.dumps(f"{HEAD}{json.dumps(name)}{BEFORE_ARGUMENTS}")
    return f"call_{place}: {head} {_json_of({**arguments, **_SPACING})} {json.dumps(TAIL)}"


def _json_of(schema: Mapping[str, Any]) -> str:
    return f"%json {json.dumps(schema, ensure_ascii=False)}"
