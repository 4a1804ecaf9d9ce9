"""Tools as text: what is written, the grammar of it, and the same read back in pieces of any size."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.data.schemas import response_schema
from luthier.data.schemas.schema_limits import UnusableSchema
from luthier.data.tools import answer_grammar, prompt_format
from luthier.data.tools.stream_parser import ArgumentsPiece, CallStart, TextPiece, ToolCallParser

PLAIN = st.none() | st.booleans() | st.integers() | st.text()
JSON = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
ARGUMENTS = st.dictionaries(st.text(), JSON)


def read(text: str, cuts: list[int]) -> tuple[str, list[list[str]]]:
    """The words of an answer, and its calls as name and arguments."""
    reader = ToolCallParser()
    words = ""
    calls: list[list[str]] = []
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [piece for start, end in itertools.pairwise(edges) for piece in reader.feed(text[start:end])]
    for piece in pieces + reader.finish():
        match piece:
            case TextPiece(more):
                words += more
            case CallStart(place, name):
                assert place == len(calls)
                calls.append([name, ""])
            case ArgumentsPiece(place, more):
                calls[place][1] += more
    return words, calls


@given(
    st.lists(st.tuples(st.sampled_from(["f", "get_weather"]), ARGUMENTS), min_size=1, max_size=3),
    st.lists(st.integers(0)),
)
def test_calls_written_are_read_back_however_they_are_cut(
    calls: list[tuple[str, dict[str, Any]]], cuts: list[int]
) -> None:
    turn = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": name, "arguments": arguments}} for name, arguments in calls],
    }
    (folded,) = prompt_format.fold_tools([turn], [])
    words, found = read(str(folded["content"]), cuts)
    assert words == ""
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls


@given(st.text().filter(lambda text: not text.startswith(prompt_format.OPEN)), st.lists(st.integers(0)))
def test_words_are_read_as_they_are(text: str, cuts: list[int]) -> None:
    assert read(text, cuts) == (text, [])


@given(st.integers(0, 80), st.lists(st.integers(0)))
def test_call_that_was_cut_off_loses_nothing_but_its_mark(length: int, cuts: list[int]) -> None:
    whole = prompt_format.call_text("f", '{"city": "Paris", "days": 3}')
    words, calls = read(whole[:length], cuts)
    assert not calls or '{"city": "Paris", "days": 3}'.startswith(calls[0][1])
    assert not words or prompt_format.HEAD.startswith(words)


def test_definitions_close_the_system_turn_and_results_share_a_users_turn() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "Größe {x}"}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Wait.", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
        {"role": "tool", "content": "1", "tool_call_id": "a"},
        {"role": "tool", "content": "2", "tool_call_id": "b"},
        {"role": "assistant", "content": "3"},
    ]
    folded = prompt_format.fold_tools(messages, [tool])
    assert [turn["role"] for turn in folded] == ["system", "user", "assistant", "user", "assistant"]
    assert json.dumps(tool, ensure_ascii=False) in str(folded[0]["content"])
    assert folded[2]["content"] == "Wait.\n" + prompt_format.call_text("f", "{}")
    assert folded[3]["content"] == "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>"
    with_system = prompt_format.fold_tools([{"role": "system", "content": "Be brief."}, *messages], [tool])
    assert with_system[0]["content"] == f"Be brief.\n\n{folded[0]['content']}"
    assert messages[0] == {"role": "user", "content": "Hi"}


def test_turns_without_tools_stay_as_they_are() -> None:
    turns = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": ""}]
    assert prompt_format.fold_tools(turns, []) == turns


def test_grammar_without_parallel_calls_has_one() -> None:
    one = answer_grammar.build_grammar({"f": {"type": "object"}}, must_call=True, parallel=False)
    several = answer_grammar.build_grammar({"f": {"type": "object"}}, must_call=True, parallel=True)
    assert "calls: call\n" in one
    assert f'calls: call ("\\n" call){{0,{answer_grammar.MAX_CALLS - 1}}}\n' in several


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "wurst"}, ".type"),
        ({"type": []}, ".type"),
        ({"enum": []}, ".enum"),
        ({"anyOf": []}, ".anyOf"),
        ({"properties": []}, ".properties"),
        ({"items": 3}, ".items"),
        ({"$ref": "#/$defs/a"}, ".$ref"),
        ({"$ref": "http://a/b"}, ".$ref"),
        ({"properties": {"a": {"items": {"type": "int"}}}}, ".properties.a.items.type"),
    ],
)
def test_what_is_no_schema_is_named_by_its_path(schema: dict[str, Any], path: str) -> None:
    for strict in (False, True):
        with pytest.raises(UnusableSchema) as caught:
            response_schema.grammar_schema(schema, strict)
        assert caught.value.path == path


@pytest.mark.parametrize(
    ("schema", "taken"),
    [
        ({"not": {}}, {}),
        ({"type": "string", "format": "int32"}, {"type": "string"}),
        ({"type": "string", "pattern": "(?=a)b"}, {"type": "string"}),
        ({"type": "string", "pattern": "["}, {"type": "string"}),
        ({"oneOf": [{"type": "null"}]}, {"anyOf": [{"type": "null"}]}),
    ],
)
def test_what_no_grammar_knows_is_left_out_or_with_strict_refused(
    schema: dict[str, Any], taken: dict[str, Any]
) -> None:
    assert response_schema.grammar_schema(schema, strict=False) == taken
    with pytest.raises(UnusableSchema):
        response_schema.grammar_schema(schema, strict=True)


def test_deep_schema_is_refused_and_breaks_nothing() -> None:
    schema: dict[str, Any] = {}
    for _ in range(500):
        schema = {"items": schema}
    with pytest.raises(UnusableSchema):
        response_schema.grammar_schema(schema, strict=False)
