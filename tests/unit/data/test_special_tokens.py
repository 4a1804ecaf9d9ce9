"""Control tokens that a row spells are told with line and place, and what only looks like one is not."""

import json
from typing import Any

import pytest

from luthier.core.states import Method
from luthier.data.checks import validate
from luthier.data.checks.dataset_checks import DatasetChecks
from luthier.data.checks.special_tokens import SpecialTokens
from luthier.data.problems.problem import Problem

USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}


def found(
    row: dict[str, Any], special: SpecialTokens | None = None, method: Method = Method.SUPERVISED
) -> list[Problem]:
    content = json.dumps(row).replace("<", "\\u003c").encode()
    report = validate.check_file([content], None, 1, method, [DatasetChecks(special=special)])
    other = validate.check_file([json.dumps(row).encode()], None, 1, method, [DatasetChecks(special=special)])
    assert report.problems == other.problems
    assert report.n_errors == 0
    return [problem for problem in report.problems if problem.code == "special_token"]


@pytest.mark.parametrize("token", ["<|im_end|>", "<|endoftext|>", "[INST]", "<|eot_id|>", "<start_of_turn>", "a</s>"])
def test_token_in_a_question_is_told_with_its_place(token: str) -> None:
    (problem,) = found({"messages": [{"role": "user", "content": f"Log: {token}\nnext"}, ANSWER]})
    assert (problem.line, problem.path) == (1, "messages[0].content")
    assert token.removeprefix("a") in problem.message


def test_end_in_an_answer_is_told_as_such() -> None:
    (problem,) = found({"messages": [USER, {"role": "assistant", "content": "Ho<|im_end|>"}]})
    assert problem.path == "messages[1].content"
    assert "ends a turn" in problem.message
    (problem,) = found({"messages": [USER, {"role": "assistant", "content": "Ho <|im_start|>"}]})
    assert "ends a turn" not in problem.message


def test_names_arguments_results_and_schemas_are_looked_through() -> None:
    call = {"id": "<|end|>", "type": "function", "function": {"name": "f", "arguments": '{"a": ["<|im_end|>"]}'}}
    schema = {"type": "object", "properties": {"a": {"description": "<|user|>"}}}
    row = {
        "messages": [
            {**USER, "name": "<|system|>"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "<|end|>", "content": "[/INST]"},
            ANSWER,
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}],
    }
    assert [problem.path for problem in found(row)] == [
        "messages[0].name",
        "messages[1].tool_calls[0].function.arguments",
        "messages[2].content",
        "messages[2].tool_call_id",
        "tools[0].function",
    ]


def test_preference_rows_are_looked_through() -> None:
    bad = {"role": "assistant", "content": "x<|im_end|>"}
    row = {"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [bad]}
    assert [problem.path for problem in found(row, method=Method.DPO)] == ["non_preferred_output[0].content"]


@pytest.mark.parametrize("text", ["<s>old</s> new", "a <b> c", "<|>", "| im_end |", "[INSTALL]", "<think>x</think>"])
def test_what_only_looks_like_one_is_left_alone(text: str) -> None:
    assert found({"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}]}) == []


def test_tokens_of_the_base_model_are_looked_for_too() -> None:
    row = {"messages": [USER, {"role": "assistant", "content": "a <stop> b"}]}
    assert found(row) == []
    (problem,) = found(row, SpecialTokens(["<stop>"], ["<stop>"]))
    assert "ends a turn" in problem.message
