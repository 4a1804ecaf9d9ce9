"""The form of calls that a template shows: found, read back however an answer is cut, and kept by the grammar."""

import asyncio
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.chat_templates import sandbox
from luthier.data.rendering import template_text, tool_samples
from luthier.data.rendering.control_text import ControlTexts
from luthier.data.tools import answer_grammar
from luthier.data.tools.call_form import OURS, CallForm
from luthier.data.tools.stream_parser import ArgumentsPiece, CallStart, TextPiece, ToolCallParser
from luthier.grammars.grammar_checker import GrammarChecker

PLAIN = st.none() | st.booleans() | st.integers() | st.text()
JSON = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
ARGUMENTS = st.dictionaries(st.text(), JSON)
CALLS = st.lists(st.tuples(st.sampled_from(["f", "get_weather"]), ARGUMENTS), min_size=1, max_size=3)
LLAMA3 = CallForm('{"name": ', ', "parameters": ', "}", None, '{"name": ')
FUNCTION = CallForm("<function=", ">", "</function>", "\n", "<function=")
"""Of no template: one without JSON around the arguments; the name is JSON."""
FORMS = (OURS, LLAMA3, FUNCTION)

HEAD = "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
TAIL = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
EACH = "{{ m.content }}{% for call in m.tool_calls or [] %}CALL{% if not loop.last %}{{ '\n' }}{% endif %}{% endfor %}"
ONE = (
    "{% if m.tool_calls %}{% if m.tool_calls | length > 1 %}{{ raise_exception('One call at a time.') }}{% endif %}"
    "{% set call = m.tool_calls[0] %}CALL{% else %}{{ m.content }}{% endif %}"
)
TAGGED = "<function={{ call.function.name | tojson }}>{{ call.function.arguments | tojson }}</function>"
NAMED = '{"name": {{ call.function.name | tojson }}, "WORD": {{ call.function.arguments | tojson }}}'


@dataclass
class Template:
    """A chat template with its control tokens."""

    source: str

    @property
    def controls(self) -> ControlTexts:
        return ControlTexts(("<|im_start|>", "<|im_end|>", "[TOOL_CALLS]"))

    def text(self, messages: Sequence[Any], tools: Sequence[Any], add_generation_prompt: bool) -> str:
        compiled = sandbox.compile_template(self.source, {})
        return template_text.render(compiled, messages, tools, add_generation_prompt)


def template(body: str, call: str) -> Template:
    return Template(HEAD + body.replace("CALL", call) + TAIL)


@pytest.mark.parametrize(
    ("body", "call", "form"),
    [
        (EACH, "<tool_call>\n" + NAMED.replace("WORD", "arguments") + "\n</tool_call>", OURS),
        (ONE, NAMED.replace("WORD", "parameters"), LLAMA3),
        (
            EACH,
            "<function={{ call.function.name | tojson }}>{{ call.function.arguments | tojson }}</function>",
            FUNCTION,
        ),
        (EACH, "[TOOL_CALLS] " + NAMED, None),
        (EACH, "{{ call.function.name }}({{ call.function.arguments | tojson }})", None),
        (EACH, '{"id": "{{ call.id }}", ' + NAMED[1:], None),
        (EACH, "<call>{% for k, v in call.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}</call>", None),
    ],
)
def test_form_is_the_one_that_the_template_writes(body: str, call: str, form: CallForm | None) -> None:
    assert tool_samples.call_form(template(body, call)) == form


def read(form: CallForm, text: str, cuts: list[int]) -> tuple[str, list[tuple[str, str]]]:
    """The words of an answer, and its calls as name and arguments."""
    parser, words = ToolCallParser(form), ""
    calls: list[tuple[str, str]] = []
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [piece for start, end in itertools.pairwise(edges) for piece in parser.feed(text[start:end])]
    for piece in pieces + parser.finish():
        match piece:
            case TextPiece(more):
                words += more
            case CallStart(_, name):
                calls.append((name, ""))
            case ArgumentsPiece(place, more):
                calls[place] = (calls[place][0], calls[place][1] + more)
    return words, calls


@pytest.mark.parametrize("form", FORMS, ids=("ours", "llama3", "function"))
@given(
    calls=st.lists(st.tuples(st.sampled_from(["f", "get_weather"]), ARGUMENTS), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0)),
)
def test_calls_are_read_back_however_they_are_cut(
    form: CallForm, calls: list[tuple[str, dict[str, Any]]], cuts: list[int]
) -> None:
    said = calls if form.separator is not None else calls[:1]
    text = (form.separator or "").join(form.text(name, json.dumps(arguments)) for name, arguments in said)
    words, found = read(form, text, cuts)
    assert words == ""
    assert [(name, json.loads(arguments)) for name, arguments in found] == said


@pytest.mark.parametrize("form", FORMS, ids=("ours", "llama3", "function"))
@given(text=st.text(), cuts=st.lists(st.integers(0)))
def test_words_are_read_as_they_are(form: CallForm, text: str, cuts: list[int]) -> None:
    if not text.startswith(form.mark):
        assert read(form, text, cuts) == (text, [])


@pytest.mark.parametrize("form", FORMS, ids=("ours", "llama3", "function"))
def test_grammar_takes_words_and_calls_of_the_form_and_no_others(form: CallForm, grammars: GrammarChecker) -> None:
    functions = {"f": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}
    grammar = answer_grammar.build_grammar(functions, must_call=False, parallel=True, form=form)
    checked = asyncio.run(grammars.checked("r", grammar, ()))
    assert checked.fault is None
    call = form.text("f", '{"a": 1}')

    def fits(text: str) -> bool:
        matcher = checked.new_matcher()
        return matcher.accepts(text) and matcher.is_complete()

    assert fits("Words, even with {braces} and <tags>.")
    assert fits(call)
    assert fits(f"{call}{form.separator}{call}") is (form.separator is not None)
    assert not fits(form.text("g", '{"a": 1}'))
    assert not fits(form.text("f", '{"a": "one"}'))
    assert not fits(form.mark + " no call")
