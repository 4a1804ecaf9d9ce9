"""Tools and calls as other programs write them: named by the doctor, mended where that is certain, else left."""

import json
import re
from typing import Any

import pytest

from luthier.core.states import Ability
from luthier.data.jsonl.line_reader import JsonRow
from luthier.data.repair import row_repair
from luthier.data.rows import supervised

USER = {"role": "user", "content": "Which bay?"}
ANSWER = {"role": "assistant", "content": "Bay 4."}
SCHEMA = {"type": "object", "properties": {"unit": {"type": "integer"}}, "required": ["unit"]}
BAY = {"type": "function", "function": {"name": "bay_of", "parameters": SCHEMA}}
LIST = {"type": "function", "function": {"name": "list_units", "parameters": {"type": "object", "properties": {}}}}


def call(arguments: Any, name: str = "bay_of", **more: Any) -> dict[str, Any]:
    return {"id": "c", "type": "function", **more, "function": {"name": name, "arguments": arguments}}


def bare(name: str, arguments: Any = "{}") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def tool(parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "bay_of", "parameters": parameters}}


def row(calls: Any, *answers: dict[str, Any], tools: Any = (BAY, LIST)) -> dict[str, Any]:
    called = {"role": "assistant", "content": None, "tool_calls": calls}
    return {"messages": [USER, called, *answers, ANSWER], "tools": tools if isinstance(tools, str) else list(tools)}


def answer(content: str = "4", **more: Any) -> dict[str, Any]:
    return {"role": "tool", **more, "content": content}


def read(value: dict[str, Any]) -> supervised.Parsed[supervised.Example]:
    return supervised.parse_supervised(JsonRow(1, json.loads(json.dumps(value))), frozenset(Ability))


def problems(value: dict[str, Any]) -> list[str]:
    return [problem.sentence() for problem in read(value).problems]


@pytest.mark.parametrize("nothing", ["", "  ", None])
def test_no_arguments_are_an_empty_object_where_none_is_needed(nothing: str | None) -> None:
    parsed = read(row([call(nothing, "list_units")], answer(tool_call_id="c")))
    assert parsed.problems == ()
    assert parsed.example is not None
    assert parsed.example.messages[1].tool_calls[0].arguments == {}
    (problem,) = read(row([call(nothing)], answer(tool_call_id="c"))).problems
    assert (problem.code, problem.path) == ("arguments_break_schema", "messages[1].tool_calls[0].function.arguments")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (row([call({"unit": 1})], answer(tool_call_id="c")), "the arguments are a JSON object"),
        (row([call("null")], answer(tool_call_id="c")), "holds a JSON null"),
        (row([call('"{\\"unit\\": 1}"')], answer(tool_call_id="c")), "holds a JSON string"),
        (row([bare("bay_of", '{"unit": 1}')], answer(name="bay_of")), "has the id of its call"),
        ({"messages": [USER, ANSWER], "tools": json.dumps([BAY])}, "tools is a string that holds JSON"),
        ({"messages": [USER, ANSWER], "tools": [json.dumps(BAY)]}, "is a string that holds JSON"),
        (row(json.dumps([call('{"unit": 1}')]), answer(tool_call_id="c")), "array of calls that the string holds"),
        (
            {
                "messages": [USER, ANSWER],
                "tools": [{"type": "function", "function": {"name": "f", "parameters": "{}"}}],
            },
            "parameters is a string that holds the schema",
        ),
        (
            {
                "messages": [USER, ANSWER],
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "f", "parameters": {**SCHEMA, "properties": {"unit": {}, "day": None}}},
                    }
                ],
            },
            "pyarrow",
        ),
    ],
)
def test_fault_is_named_with_the_command_that_mends_it_and_mended(broken: dict[str, Any], words: str) -> None:
    told = [sentence for sentence in problems(broken) if words in sentence]
    assert any(re.search("luthier check .*--fix", sentence) for sentence in told)
    mended, done = row_repair.repair_row(broken)
    assert done
    assert not [sentence for sentence in problems(mended) if words in sentence]
    assert set(done) <= row_repair.CHANGE_TEXTS.keys()
    assert row_repair.repair_row(mended) == (mended, [])


def test_row_as_arrow_writes_it_loses_its_nulls_and_nothing_else() -> None:
    filled = {
        "type": "object",
        "properties": {
            "unit": {"type": "integer", "enum": None, "default": None, "items": None},
            "day": None,
            "far": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}, "b": None}}},
        },
        "required": ["unit"],
        "additionalProperties": None,
    }
    tool = {"type": "function", "function": {"name": "bay_of", "description": None, "parameters": filled}}
    turns = row([{**call({"unit": 1, "day": None}), "index": None}], answer(tool_call_id="c", tool_calls=None))
    turns["messages"][0] = {**USER, "name": None, "content": [{"type": "text", "text": "Hi", "image_url": None}]}
    mended, done = row_repair.repair_row({**turns, "tools": [tool]})
    assert {"null_in_tools", "arguments_in_json"} == set(done)
    assert mended["tools"][0]["function"] == {
        "name": "bay_of",
        "parameters": {
            "type": "object",
            "properties": {
                "unit": {"type": "integer"},
                "far": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
            },
            "required": ["unit"],
        },
    }
    assert mended["messages"][0] == {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    assert mended["messages"][1] == {"role": "assistant", "content": None, "tool_calls": [call('{"unit": 1}')]}
    assert problems(mended) == []


def test_null_that_is_meant_stays() -> None:
    schema = {
        "type": "object",
        "properties": {
            "day": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            "unit": {"type": ["integer", "null"], "enum": [1, None]},
        },
    }
    tool = {"type": "function", "function": {"name": "bay_of", "parameters": schema}}
    value = row([call('{"unit": null, "day": null}')], answer(tool_call_id="c"), tools=(tool,))
    assert row_repair.repair_row(value) == (value, [])
    objects = row([call({"unit": None, "day": None})], answer(tool_call_id="c"), tools=(tool,))
    assert row_repair.repair_row(objects)[0] == value


@pytest.mark.parametrize(
    ("calls", "answers", "ids", "named"),
    [
        ([bare("a")], [answer()], ["call_1_0"], ["call_1_0"]),
        ([bare("a"), bare("b")], [answer(), answer()], ["call_1_0", "call_1_1"], ["call_1_0", "call_1_1"]),
        # Answers that name their functions may come in another order.
        (
            [bare("a"), bare("b")],
            [answer(name="b"), answer(name="a")],
            ["call_1_0", "call_1_1"],
            ["call_1_1", "call_1_0"],
        ),
        ([bare("a")], [answer(tool_call_id="x")], ["x"], ["x"]),
        ([{**bare("a"), "id": "x"}], [answer()], ["x"], ["x"]),
        ([{**bare("a"), "id": ""}], [answer(tool_call_id=None)], ["call_1_0"], ["call_1_0"]),
        # What is not certain stays.
        ([bare("a"), bare("b")], [answer()], [None, None], [None]),
        ([bare("a")], [answer(name="b")], [None], [None]),
        ([{**bare("a"), "id": "x"}, bare("b")], [answer(), answer()], ["x", None], [None, None]),
        ([bare("a")], [], [None], []),
    ],
)
def test_ids_are_given_where_each_call_is_followed_by_its_answer(
    calls: list[Any], answers: list[Any], ids: list[Any], named: list[Any]
) -> None:
    mended, done = row_repair.repair_row(row(calls, *answers))
    turns = mended["messages"]
    assert [one.get("id") for one in turns[1]["tool_calls"]] == ids
    assert [turn.get("tool_call_id") for turn in turns[2:-1]] == named
    assert (done == []) == (None in ids)


def test_preference_rows_are_mended_in_all_their_parts() -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [call({"unit": 1})]}
    value = {
        "input": {"messages": [USER], "tools": json.dumps([BAY])},
        "preferred_output": [called],
        "non_preferred_output": [ANSWER],
    }
    mended, done = row_repair.repair_row(value)
    assert set(done) == {"tools_in_text", "arguments_in_json"}
    assert mended["input"]["tools"] == [BAY]
    assert mended["preferred_output"][0]["tool_calls"] == [call('{"unit": 1}')]
    assert mended["non_preferred_output"] == [ANSWER]


@pytest.mark.parametrize("value", ["{", '{"a": 1, "a": 2}', "x", 7, True, [1]])
def test_what_no_reader_can_be_sure_of_stays(value: Any) -> None:
    for odd in (row([call(value)], answer(tool_call_id="c")), row(value), row([value]), {**row([]), "tools": value}):
        mended, _ = row_repair.repair_row(json.loads(json.dumps(odd)))
        assert mended == odd
