"""Faults of preference pairs, in both spellings."""

from dataclasses import replace
from typing import Any

from corpus.case import ANSWER, USER, Case, Found, error, lines, warning
from luthier.core.states import Ability, Method

_WORSE = {"role": "assistant", "content": "The Moon."}
_PAIR: dict[str, Any] = {
    "input": {"messages": [USER]},
    "preferred_output": [ANSWER],
    "non_preferred_output": [_WORSE],
}
_CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
_CALLING = {"role": "assistant", "content": None, "tool_calls": [_CALL]}
_TOOLS = [{"type": "function", "function": {"name": "look"}}]


def _row(id: str, value: Any, *expected: Found) -> Case:
    return Case(f"pair_{id}", lines(_PAIR, value, _PAIR), expected, method=Method.DPO)


def _pair(id: str, *expected: Found, **parts: Any) -> Case:
    return _row(id, {key: part for key, part in {**_PAIR, **parts}.items() if part is not None}, *expected)


_SHAPES = (
    _row("supervised", {"messages": [USER, ANSWER]}, error("supervised_row")),
    _row("of_trl", {"prompt": "a", "chosen": "b", "rejected": "c"}, error("chosen_rejected_row")),
    _row("of_nothing", {}, error("missing_preference")),
    _row("of_prompt_and_completion", {"prompt": "a", "completion": "b"}, error("supervised_row")),
    _row("of_a_labelled_answer", {"prompt": "a", "completion": "b", "label": True}, error("labelled_row")),
    _pair("without_input", error("missing_input", "input"), input=None),
    _pair("with_input_a_string", error("chosen_rejected_row"), input="Hi"),
    _pair("with_input_a_number", error("invalid_input", "input"), input=3),
    _pair("with_input_without_messages", error("missing_messages", "input.messages"), input={}),
    _pair("with_input_of_no_messages", error("invalid_messages", "input.messages"), input={"messages": []}),
    _pair("with_unknown_key", warning("unknown_key", "{3}"), source="web"),
    _pair("without_preferred", error("missing_output", "preferred_output"), preferred_output=None),
    _pair("without_non_preferred", error("missing_output", "non_preferred_output"), non_preferred_output=None),
    _pair("with_mixed_spellings", error("mixed_spellings"), preferred_output=None, preferred_completion=[ANSWER]),
    _pair("with_equal_outputs", error("equal_outputs", "non_preferred_output"), non_preferred_output=[ANSWER]),
    _pair("with_output_a_string", error("chosen_rejected_row"), preferred_output="Jupiter."),
    _pair("with_empty_output", error("invalid_messages", "non_preferred_output"), non_preferred_output=[]),
)

_TURNS = (
    _pair("with_input_that_ends_with_an_answer", error("input_ends_with_assistant", "input.messages[1].role"),
          input={"messages": [USER, ANSWER]}),
    _pair("with_weight", warning("ignored_weight", "preferred_output[0].weight"), preferred_output=[{**ANSWER, "weight": 1}]),
    _pair("with_a_user_in_an_output", error("misplaced_role", "preferred_output[0].role"),
          error("no_assistant_message", "preferred_output"), preferred_output=[USER]),
    _pair("with_a_misspelled_role", error("invalid_role", "input.messages[0].role"),
          input={"messages": [{"role": "usr", "content": "Hi"}]}),
    _pair("with_an_empty_preferred_answer", warning("empty_answer", "preferred_output[0].content"),
          preferred_output=[{**ANSWER, "content": ""}]),
    _pair("with_a_call_of_no_tool", error("undefined_tool", "preferred_output[0].tool_calls[0].function.name"),
          input={"messages": [USER], "tools": [{"type": "function", "function": {"name": "other"}}]},
          preferred_output=[_CALLING]),
    _pair("with_an_answer_to_nothing", error("unmatched_tool_answer", "non_preferred_output[0].tool_call_id"),
          error("no_assistant_message", "non_preferred_output"),
          input={"messages": [USER], "tools": _TOOLS},
          non_preferred_output=[{"role": "tool", "tool_call_id": "c", "content": "Sunny."}]),
    replace(_pair("with_tools_for_a_base_without", error("tools_not_supported", "input.tools"),
                  input={"messages": [USER], "tools": _TOOLS}), abilities=frozenset({Ability.VISION})),
    Case("pair_on_two_lines", lines(_PAIR, b'{"input":', _PAIR), (error("truncated_json", "input"),), method=Method.DPO),
)  # fmt: skip

CASES = (*_SHAPES, *_TURNS)

CLEAN = (
    _pair("spelled_otherwise", preferred_output=None, non_preferred_output=None, preferred_completion=[ANSWER],
          non_preferred_completion=[_WORSE]),
    _pair("with_calls", input={"messages": [USER], "tools": _TOOLS}, preferred_output=[_CALLING]),
)  # fmt: skip
