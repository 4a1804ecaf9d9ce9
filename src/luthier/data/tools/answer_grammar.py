"""Writes what a model may answer as a grammar in llguidance's language: calls of functions, JSON of a schema, or words.

Text only: `grammars/` tries it, and the engine compiles it.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from luthier.data.tools.call_form import OURS, CallForm

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
    form: CallForm = OURS,
) -> str:
    """The grammar of an answer that calls one or more of the functions, or, unless it must call, says something.

    `functions` maps names to schemas of arguments, `schema` is that of an answer in words (None: any words), all in the
    form of `response_schema.grammar_schema`. Words never begin as a call does, so that `ToolCallParser` can tell the
    two apart. With `parallel` up to MAX_CALLS calls, else one, as where `form` knows no several.
    """
    rules = []
    if functions:
        several = parallel and form.separator is not None
        more = f" ({_text(form.separator or '')} call){{0,{MAX_CALLS - 1}}}" if several else ""
        rules.append(f"calls: call{more}")
        rules.append("call: " + " | ".join(f"call_{index}" for index in range(len(functions))))
        rules += [_call(form, index, name, arguments) for index, (name, arguments) in enumerate(functions.items())]
    if schema is not None:
        rules.append(f"words: {_json_of(schema)}")
    elif not must_call:
        rules += ["words: WORDS", f"WORDS: /(?s:.*)/ & ~/{_pattern(form.mark)}(?s:.*)/"]
    start = "calls" if must_call else "words | calls" if functions else "words"
    return "\n".join(["%llguidance {}", f"start: {start}", *rules, ""])


def _call(form: CallForm, index: int, name: str, arguments: Mapping[str, Any]) -> str:
    """The rule of function number `index`: its name fixed, its arguments by their schema."""
    head, tail = f"{form.head}{json.dumps(name)}{form.before_arguments}", form.tail
    return f"call_{index}: {_text(head)} {_json_of(arguments)}{f' {_text(tail)}' if tail else ''}"


def _text(text: str) -> str:
    """A text as the grammar's language quotes it."""
    return json.dumps(text)


def _pattern(text: str) -> str:
    """A text as a pattern that matches it alone, between slashes."""
    return re.sub(r"[^A-Za-z0-9 _<>:,\"=\x80-\U0010ffff-]", lambda found: f"\\x{ord(found[0]):02x}", text)


def _json_of(schema: Mapping[str, Any]) -> str:
    """A JSON value of the schema, spaced as `prompt_format` writes it."""
    return f"%json {json.dumps({**schema, **_SPACING}, ensure_ascii=False)}"
