"""One row to an example: what is taken, what is refused, and that every problem is named at once."""

from typing import Any

import pytest

from luthier.core.states import Ability
from luthier.data.jsonl.line_reader import JsonRow
from luthier.data.problems.problem import Severity
from luthier.data.rows import supervised
from luthier.data.rows.supervised import Role

USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}


def row(*turns: Any, **more: Any) -> JsonRow:
    return JsonRow(7, {"messages": list(turns), **more})


def codes(value: JsonRow, *abilities: Ability) -> list[str]:
    parsed = supervised.parse_supervised(value, frozenset(abilities))
    errors = [problem for problem in parsed.problems if problem.severity is Severity.ERROR]
    assert (parsed.example is None) == bool(errors)
    assert all(problem.line == 7 for problem in errors)
    return [problem.code for problem in errors]


def test_parse_plain_turns_give_an_example_with_weights() -> None:
    earlier = {"role": "assistant", "content": "No", "weight": 0}
    system = {"role": "system", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]}
    parsed = supervised.parse_supervised(row(system, USER, earlier, USER, ASSISTANT, tools=[]), frozenset())
    assert parsed.example is not None
    assert [(turn.role, turn.weight) for turn in parsed.example.messages] == [
        (Role.SYSTEM, 0.0),
        (Role.USER, 0.0),
        (Role.ASSISTANT, 0.0),
        (Role.USER, 0.0),
        (Role.ASSISTANT, 1.0),
    ]
    assert parsed.example.messages[0].content == "Be kind."
    assert parsed.problems == ()


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (JsonRow(7, {"prompt": "a", "completion": "b"}), "prompt_completion_row"),
        (JsonRow(7, {"input": {}, "preferred_output": [], "non_preferred_output": []}), "preference_row"),
        (JsonRow(7, {"mesages": []}), "missing_messages"),
        (row(), "invalid_messages"),
        (JsonRow(7, {"messages": "hello"}), "invalid_messages"),
        (row(USER, 3), "invalid_message"),
        (row({"content": "Hi"}, ASSISTANT), "invalid_role"),
        (row({"role": "asistant", "content": "Hi"}, ASSISTANT), "invalid_role"),
        (row({**USER, "weight": 1}, ASSISTANT), "misplaced_weight"),
        (row(USER, {**ASSISTANT, "weight": 0.5}), "invalid_weight"),
        (row(USER, {**ASSISTANT, "weight": True}), "invalid_weight"),
        (row(USER, {**ASSISTANT, "weight": 0}), "nothing_to_learn"),
        (row(USER), "no_assistant_message"),
        (row(USER, ASSISTANT, ASSISTANT), "consecutive_assistant_messages"),
        (row({"role": "user"}, ASSISTANT), "invalid_content"),
        (row({"role": "user", "content": 3}, ASSISTANT), "invalid_content"),
        (row({"role": "user", "content": ["Hi"]}, ASSISTANT), "invalid_content_part"),
        (row({"role": "user", "content": [IMAGE]}, ASSISTANT), "image_not_supported"),
        (row(USER, {**ASSISTANT, "wieght": 0}), "unknown_key"),
        (row(USER, ASSISTANT, tools=[TOOL]), "tools_not_supported"),
        (row(USER, {"role": "assistant", "tool_calls": [CALL]}), "tools_not_supported"),
        (row(USER, ASSISTANT, {"role": "tool", "tool_call_id": "c", "content": "3"}), "tools_not_supported"),
    ],
)
def test_parse_bad_row_has_one_clear_code(value: JsonRow, code: str) -> None:
    assert codes(value) == [code]


def test_parse_several_faults_are_all_named() -> None:
    found = codes(row({"role": "usr", "content": "Hi"}, {**ASSISTANT, "weight": 2}, {"role": "user"}))
    assert found == ["invalid_role", "invalid_weight", "invalid_content"]


def test_parse_unknown_key_far_from_any_is_a_warning() -> None:
    parsed = supervised.parse_supervised(row(USER, ASSISTANT, source="web"), frozenset())
    assert parsed.example is not None
    assert [(problem.code, problem.severity) for problem in parsed.problems] == [("unknown_key", Severity.WARNING)]


def test_parse_problem_never_quotes_the_row() -> None:
    secret = "swordfish"
    value = row({"role": secret, "content": secret, secret: 1}, {**ASSISTANT, "weight": secret}, **{secret: secret})
    found = supervised.parse_supervised(value, frozenset()).problems
    assert found
    assert not any(secret in problem.sentence() for problem in found)


def test_parse_tool_rows_with_the_ability_give_decoded_calls() -> None:
    turns = (
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "3"},
        ASSISTANT,
    )
    parsed = supervised.parse_supervised(row(*turns, tools=[TOOL], parallel_tool_calls=True), {Ability.TOOLS})
    assert parsed.example is not None
    assert parsed.example.messages[1].tool_calls[0].arguments == {"a": 1}
    assert parsed.example.tools == (TOOL,)


def test_parse_malformed_tool_calls_are_all_named_with_their_places() -> None:
    calls = [{}, 3, {**CALL, "id": ""}, {**CALL, "function": {"name": "add", "arguments": "["}}, CALL, CALL]
    parsed = supervised.parse_supervised(
        row(USER, {"role": "assistant", "tool_calls": calls}, tools=[TOOL]), {Ability.TOOLS}
    )
    assert [(problem.path, problem.code) for problem in parsed.problems] == [
        ("messages[1].tool_calls[0].type", "invalid_tool_calls"),
        ("messages[1].tool_calls[0].id", "invalid_tool_calls"),
        ("messages[1].tool_calls[0].function", "invalid_tool_calls"),
        ("messages[1].tool_calls[1]", "invalid_tool_calls"),
        ("messages[1].tool_calls[2].id", "invalid_tool_calls"),
        ("messages[1].tool_calls[3].function.arguments", "invalid_arguments"),
        ("messages[1].tool_calls[4].id", "duplicate_tool_call_id"),
        ("messages[1].tool_calls[5].id", "duplicate_tool_call_id"),
    ]
