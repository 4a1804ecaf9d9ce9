"""One row to a preference pair: what is taken, what is refused, and that every problem is named at once."""

import json
from typing import Any

import pytest

from luthier.core.states import Ability, Method
from luthier.data.checks import validate
from luthier.data.jsonl.line_reader import JsonRow
from luthier.data.problems.problem import Severity
from luthier.data.rows import preference
from luthier.data.rows.supervised import Role

USER = {"role": "user", "content": "Hi"}
BETTER = {"role": "assistant", "content": "Hello"}
WORSE = {"role": "assistant", "content": "What?"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
ANSWERING = {"role": "tool", "tool_call_id": "call_1", "content": "3"}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}
INPUT = {"messages": [USER]}


def row(**changes: Any) -> JsonRow:
    """The usual row with keys changed; a key that is None is left out."""
    value = {"input": INPUT, "preferred_output": [BETTER], "non_preferred_output": [WORSE], **changes}
    return JsonRow(7, {key: part for key, part in value.items() if part is not None})


def codes(value: JsonRow, *abilities: Ability) -> list[str]:
    parsed = preference.parse_preference(value, frozenset(abilities))
    errors = [problem for problem in parsed.problems if problem.severity is Severity.ERROR]
    assert (parsed.example is None) == bool(errors)
    assert all(problem.line == 7 for problem in errors)
    return [problem.code for problem in errors]


@pytest.mark.parametrize("ending", ["output", "completion"])
def test_parse_both_spellings_give_the_same_pair(ending: str) -> None:
    sides = {f"preferred_{ending}": [BETTER], f"non_preferred_{ending}": [WORSE]}
    parsed = preference.parse_preference(JsonRow(1, {"input": INPUT, **sides}), frozenset())
    assert parsed.example is not None
    better, worse = parsed.example.examples()
    assert [(turn.role, turn.content, turn.weight) for turn in better.messages] == [
        (Role.USER, "Hi", 0.0),
        (Role.ASSISTANT, "Hello", 1.0),
    ]
    assert [turn.content for turn in worse.messages] == ["Hi", "What?"]
    assert parsed.problems == ()


def test_parse_answers_in_the_input_are_not_learned() -> None:
    earlier = {"messages": [USER, WORSE, USER]}
    parsed = preference.parse_preference(row(input=earlier), frozenset())
    assert parsed.example is not None
    assert [turn.weight for turn in parsed.example.messages] == [0.0, 0.0, 0.0]


def test_parse_output_with_tools_learns_the_assistants_turns_alone() -> None:
    outputs = {"preferred_output": [CALLING, ANSWERING, BETTER], "non_preferred_output": [WORSE]}
    parsed = preference.parse_preference(row(input={**INPUT, "tools": [TOOL]}, **outputs), {Ability.TOOLS})
    assert parsed.example is not None
    assert [turn.weight for turn in parsed.example.preferred] == [1.0, 0.0, 1.0]
    assert parsed.example.examples()[0].tools == (TOOL,)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (JsonRow(7, {"messages": [USER, BETTER]}), "supervised_row"),
        (JsonRow(7, {"prompt": "a", "chosen": "b", "rejected": "c"}), "chosen_rejected_row"),
        (JsonRow(7, {"inputs": INPUT}), "missing_preference"),
        (JsonRow(7, {}), "missing_preference"),
        (row(input=None), "missing_input"),
        (row(input=[USER]), "chosen_rejected_row"),
        (row(input={}), "missing_messages"),
        (row(input={"messages": []}), "invalid_messages"),
        (row(input={"messages": [USER, BETTER]}), "input_ends_with_assistant"),
        (row(input={"messages": [USER, BETTER, BETTER, USER]}), "consecutive_assistant_messages"),
        (row(input={"message": [USER]}), "unknown_key"),
        (row(input={**INPUT, "parallel_tool_calls": "yes"}), "invalid_tools"),
        (row(input={**INPUT, "tools": [TOOL]}), "tools_not_supported"),
        (row(preferred_output=None), "missing_output"),
        (row(non_preferred_output=None), "missing_output"),
        (row(preferred_output=[]), "invalid_messages"),
        (row(preferred_output=BETTER), "chosen_rejected_row"),
        (row(preferred_output=[USER]), "misplaced_role"),
        (row(preferred_output=[BETTER, USER, BETTER]), "misplaced_role"),
        (row(preferred_output=[BETTER, BETTER]), "consecutive_assistant_messages"),
        (row(preferred_output=[WORSE]), "equal_outputs"),
        (row(preferred_output=None, preferred_completion=[BETTER]), "mixed_spellings"),
        (row(preferred_completion=[BETTER]), "mixed_spellings"),
        (row(prefered_output=[BETTER], preferred_output=None), "unknown_key"),
    ],
)
def test_parse_bad_row_names_its_fault(value: JsonRow, code: str) -> None:
    found = codes(value)
    assert found[0] == code
    # A slip in a key also leaves the key itself missing; a wrong role may leave no answer.
    assert set(found[1:]) <= {"missing_output", "missing_messages", "no_assistant_message"}


def test_parse_output_of_a_tool_alone_has_nothing_to_prefer() -> None:
    assert codes(row(preferred_output=[ANSWERING]), Ability.TOOLS) == [
        "unmatched_tool_answer",
        "no_assistant_message",
    ]
    assert codes(row(preferred_output=[ANSWERING, BETTER]), Ability.TOOLS) == ["unmatched_tool_answer"]


def test_parse_faults_of_all_three_parts_are_named_with_their_places() -> None:
    value = row(
        input={"messages": [{"role": "usr", "content": "Hi"}], "tool": []},
        preferred_output=[{"role": "assistant"}],
        non_preferred_output=[WORSE, USER],
    )
    found = [(one.path, one.code) for one in preference.parse_preference(value, frozenset()).problems]
    assert found == [
        ("input{1}", "unknown_key"),
        ("input.messages[0].role", "invalid_role"),
        ("preferred_output[0].content", "invalid_content"),
        ("non_preferred_output[1].role", "misplaced_role"),
    ]


def test_parse_weight_is_ignored_with_a_warning_wherever_it_stands() -> None:
    light = {**BETTER, "weight": 0}
    parsed = preference.parse_preference(
        row(input={"messages": [{**USER, "weight": 1}]}, preferred_output=[light]), frozenset()
    )
    assert parsed.example is not None
    assert parsed.example.preferred[0].weight == 1.0
    assert [(one.path, one.code, one.severity) for one in parsed.problems] == [
        ("input.messages[0].weight", "ignored_weight", Severity.WARNING),
        ("preferred_output[0].weight", "ignored_weight", Severity.WARNING),
    ]


def test_parse_problem_never_quotes_the_row() -> None:
    secret = "swordfish"
    value = row(input={"messages": [{"role": secret, "content": secret}], secret: 1}, **{secret: secret})
    found = preference.parse_preference(value, frozenset()).problems
    assert found
    assert not any(secret in problem.sentence() for problem in found)


def test_check_file_reads_rows_as_the_method_says() -> None:
    pair = json.dumps(row().value).encode()
    chat = json.dumps({"messages": [USER, BETTER]}).encode()
    lines = [b"\n".join([pair] * 10 + [chat])]
    report = validate.check_file(lines, frozenset(), method=Method.DPO)
    assert [(one.line, one.code) for one in report.problems] == [(11, "supervised_row")]
    assert report.n_examples == 10
    other = validate.check_file(lines, frozenset())
    assert [one.code for one in other.problems] == ["preference_row"] * 10
    assert "method dpo" in other.problems[0].fix
