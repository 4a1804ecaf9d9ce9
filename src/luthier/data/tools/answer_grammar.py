"""Writes what a model may answer as a grammar in llguidance's language: calls of functions, JSON of a schema, or words.

Text only: `grammars/` tries it, and the engine compiles it.
"""

import json
from collections.abc import Mapping
from typing import Any

from luthier.data.tools.prompt_format import BEFORE_ARGUMENTS, HEAD, OPEN, TAIL

MAX_CALLS = 8
"""So many calls at most in one answer: a small model does not stop of its own accord."""
_SPACING = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
"""JSON as `prompt_format` writes it, and so as a model is taught it. If any whitespace is allowed, a small model writes
nothing else until its answer is cut off."""


def build_grammar(
    functions: Mapping[str, Mapping[str, Any]],
    *,
    must_call: bool,
    parallel: bool,
    schema: Mapping[str, Any] | None = None,
) -> str:
    """The grammar of an answer that calls one or more of the functions, or, unless it must call, says something.

    `functions` maps names to schemas of arguments, `schema` is that of an answer in words (None: any words), all in the
    form of `response_schema.grammar_schema`. Words never begin as a call does, so that `ToolCallParser` can tell the
    two apart. With `parallel` up to MAX_CALLS calls, else one.
    """
    rules = []
    if functions:
        more = f' ("\\n" call){{0,{MAX_CALLS - 1}}}' if parallel else ""
        rules.append(f"calls: call{more}")
        rules.append("call: " + " | ".join(f"call_{index}" for index in range(len(functions))))
        rules += [_call(index, name, arguments) for index, (name, arguments) in enumerate(functions.items())]
    if schema is not None:
        rules.append(f"words: {_json_of(schema)}")
    elif not must_call:
        rules += ["words: WORDS", f"WORDS: /(?s:.*)/ & ~/{OPEN}(?s:.*)/"]
    start = "calls" if must_call else "words | calls" if functions else "words"
    return "\n".join(["%llguidance {}", f"start: {start}", *rules, ""])


def _call(index: int, name: str, arguments: Mapping[str, Any]) -> str:
    """The rule of function number `index`: its name fixed, its arguments by their schema."""
    head = json.dumps(f"{HEAD}{json.dumps(name)}{BEFORE_ARGUMENTS}")
    return f"call_{index}: {head} {_json_of(arguments)} {json.dumps(TAIL)}"


def _json_of(schema: Mapping[str, Any]) -> str:
    """A JSON value of the schema, spaced as `prompt_format` writes it."""
    return f"%json {json.dumps({**schema, **_SPACING}, ensure_ascii=False)}"
