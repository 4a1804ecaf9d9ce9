"""Faults of tools: definitions, calls, arguments, answers."""

from typing import Any

from corpus.case import ANSWER, USER, error, turns, warning
from luthier.core.states import Ability

_CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "maximum": 9}, "unit": {"enum": ["c", "f"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def _tool(name: Any = "forecast", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": _CITY, **more}}


def _call(id: Any = "c1", name: Any = "forecast", arguments: Any = '{"city": "Ulm"}') -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _calling(*calls: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def _answer(id: Any = "c1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": "Sunny."}


_TOOLS = [_tool()]
_FUNCTION = {"name": "forecast", "parameters": _CITY}
_OLD_CALL = {
    "role": "assistant",
    "content": None,
    "function_call": {"name": "forecast", "arguments": '{"city": "Ulm"}'},
}
_CALL = "messages[1].tool_calls[0]"
_ARGUMENTS = f"{_CALL}.function.arguments"
_NAME, _PARAMETERS = "tools[0].function.name", "tools[0].function.parameters"


def _defined(id: str, tools: Any, *expected: Any, **more: Any) -> Any:
    return turns(f"tools_{id}", [USER, ANSWER], *expected, tools=tools, **more)


def _schema(id: str, parameters: Any, path: str = "") -> Any:
    return _defined(id, [_tool(parameters=parameters)], error("invalid_tool_schema", _PARAMETERS + path))


def _called(id: str, call: Any, *expected: Any) -> Any:
    return turns(f"call_{id}", [USER, _calling(call)], *expected, tools=_TOOLS)


def _argued(id: str, arguments: Any, code: str, inner: str = "") -> Any:
    return _called(f"with_{id}", _call(arguments=arguments), error(code, _ARGUMENTS + inner))


_DEFINITIONS = (
    _defined("an_object", {"name": "f"}, error("invalid_tools", "tools")),
    _defined("a_string", ["forecast"], error("invalid_tools", "tools[0]")),
    _defined("without_type", [{"function": _FUNCTION}], error("invalid_tools", "tools[0].type")),
    _defined("of_another_type", [{**_tool(), "type": "web"}], error("invalid_tools", "tools[0].type")),
    _defined("without_function", [{"type": "function"}], error("invalid_tools", "tools[0].function")),
    _defined("with_function_a_string", [{"type": "function", "function": "f"}], error("invalid_tools", "tools[0].function")),
    _defined("as_functions_of_old", [_FUNCTION], warning("unknown_key", "tools[0].name"),
             warning("unknown_key", "tools[0].parameters"), error("invalid_tools", "tools[0].type"),
             error("invalid_tools", "tools[0].function")),
    _defined("without_name", [{"type": "function", "function": {}}], error("invalid_tools", _NAME)),
    _defined("with_name_a_number", [_tool(3)], error("invalid_tools", _NAME)),
    _defined("with_blank_in_the_name", [_tool("the forecast")], error("invalid_tool_name", _NAME)),
    _defined("with_dot_in_the_name", [_tool("weather.forecast")], error("invalid_tool_name", _NAME)),
    _defined("with_long_name", [_tool("f" * 65)], error("invalid_tool_name", _NAME)),
    _defined("with_empty_name", [_tool("")], error("invalid_tool_name", _NAME)),
    _defined("of_one_name", [_tool(), _tool()], error("duplicate_tool_name", "tools[1].function.name")),
    _defined("too_many", [_tool(f"f{index}") for index in range(129)], error("too_many_tools", "tools")),
    _defined("with_description_a_number", [_tool(description=3)], error("invalid_tools", "tools[0].function.description")),
    _defined("with_strict_a_string", [_tool(strict="yes")], error("invalid_tools", "tools[0].function.strict")),
    _defined("with_unknown_key", [_tool(returns="text")], warning("unknown_key", "tools[0].function{2}")),
    _defined("with_parameters_misspelled", [{"type": "function", "function": {"name": "f", "paramaters": {}}}],
             error("unknown_key", "tools[0].function{1}")),
    _defined("with_parallel_a_string", [_tool()], error("invalid_tools", "parallel_tool_calls"), parallel_tool_calls="no"),
    _defined("refused_by_the_base", [_tool()], error("tools_not_supported", "tools"), abilities=frozenset()),
    turns("functions_with_a_bad_name", [USER, ANSWER], error("invalid_tool_name", "functions[0].name"),
          functions=[{**_FUNCTION, "name": "a b"}]),
    turns("functions_a_string", [USER, ANSWER], error("invalid_tools", "functions[0]"), functions=["f"]),
    _schema("with_parameters_an_array", []),
    _schema("with_parameters_of_type_array", {"type": "array", "items": {}}, ".type"),
    _schema("with_unknown_type", {"type": "object", "properties": {"a": {"type": "text"}}}, ".properties{0}.type"),
    _schema("with_required_a_string", {"type": "object", "required": "city"}, ".required"),
    _schema("with_properties_an_array", {"type": "object", "properties": []}, ".properties"),
    _schema("with_enum_a_string", {"properties": {"a": {}, "b": {"enum": "c"}}}, ".properties{1}.enum"),
    _schema("with_broken_pattern", {"properties": {"a": {"pattern": "["}}}, ".properties{0}{0}"),
    _schema("with_reference_to_nothing", {"$ref": "#/$defs/city"}),
    _schema("with_reference_to_a_file", {"properties": {"a": {"$ref": "file:///etc/hostname"}}}),
    _schema("with_reference_to_the_web", {"properties": {"a": {"$ref": "http://127.0.0.1:9/a.json"}}}),
    _schema("with_unknown_draft", {"$schema": "http://127.0.0.1:9/draft"}),
)  # fmt: skip

_CALLS = (
    _called("a_string", "forecast", error("invalid_tool_calls", _CALL)),
    _called("without_id", {"type": "function", "function": _call()["function"]}, error("other_format")),
    _called("with_empty_id", _call(""), error("invalid_tool_calls", f"{_CALL}.id")),
    _called("without_type", {"id": "c", "function": _call()["function"]}, error("other_format")),
    _called("without_function", {"id": "c", "type": "function"}, error("invalid_tool_calls", f"{_CALL}.function")),
    _called("without_name", {"id": "c", "type": "function", "function": {"arguments": '{"city": "Ulm"}'}},
            error("invalid_tool_calls", f"{_CALL}.function.name")),
    _called("with_unknown_key", {**_call(), "index": 0}, warning("unknown_key", f"{_CALL}{{3}}")),
    _called("of_an_undefined_tool", _call(name="news"), error("undefined_tool", f"{_CALL}.function.name")),
    turns("calls_an_object", [USER, {"role": "assistant", "tool_calls": _call()}],
          error("invalid_tool_calls", "messages[1].tool_calls"), tools=_TOOLS),
    turns("calls_of_one_id", [USER, _calling(_call(), _call())],
          error("duplicate_tool_call_id", "messages[1].tool_calls[1].id"), tools=_TOOLS),
    turns("call_without_tools", [USER, _calling(_call())], warning("no_tools_defined", f"{_CALL}.function")),
    turns("call_by_a_user", [{**USER, "tool_calls": [_call()]}, ANSWER],
          error("misplaced_tool_calls", "messages[0].tool_calls"), tools=_TOOLS),
    turns("call_in_both_ways", [USER, {**_OLD_CALL, **_calling(_call())}],
          error("invalid_tool_calls", "messages[1].function_call"), tools=_TOOLS),
    turns("call_of_old_that_is_broken", [USER, {"role": "assistant", "function_call": "forecast"}],
          error("invalid_tool_calls", "messages[1].function_call"), functions=[_FUNCTION]),
    turns("call_refused_by_the_base", [USER, _calling(_call()), _answer(), ANSWER],
          error("tools_not_supported", "messages[1].tool_calls"), error("tools_not_supported", "messages[2].role"),
          abilities=frozenset({Ability.VISION})),
    _argued("no_arguments", None, "arguments_break_schema"),
    _argued("an_object", {"city": "Ulm"}, "invalid_arguments"),
    _argued("an_empty_string", "", "arguments_break_schema"),
    _argued("an_array", "[]", "invalid_arguments"),
    _argued("broken_json", '{"city": "Ulm",}', "invalid_arguments"),
    _argued("a_key_twice", '{"city": "Ulm", "city": "Bonn"}', "invalid_arguments"),
    _argued("half_a_pair", '{"city": "\\ud83d"}', "invalid_arguments"),
    _argued("one_missing", "{}", "arguments_break_schema"),
    _argued("wrong_type", '{"city": 3}', "arguments_break_schema", "{0}"),
    _argued("wrong_word", '{"city": "Ulm", "unit": "k"}', "arguments_break_schema", "{1}"),
    _argued("too_large_a_number", '{"city": "Ulm", "days": 10}', "arguments_break_schema", "{1}"),
    _argued("one_too_many", '{"city": "Ulm", "street": "A"}', "arguments_break_schema"),
    _called("with_two_faults", _call(arguments='{"days": "x"}'), error("arguments_break_schema", _ARGUMENTS),
            error("arguments_break_schema", _ARGUMENTS + "{0}")),
)  # fmt: skip

_ANSWERS = (
    turns("answer_without_id", [USER, _calling(_call()), {"role": "tool", "content": "Sunny."}, ANSWER],
          error("missing_tool_call_id", "messages[2].tool_call_id"), tools=_TOOLS),
    turns("answer_with_id_a_number", [USER, _calling(_call()), _answer(3), ANSWER],
          error("missing_tool_call_id", "messages[2].tool_call_id"), tools=_TOOLS),
    turns("answer_of_another_call", [USER, _calling(_call()), _answer(), _answer("c2"), ANSWER],
          error("unmatched_tool_answer", "messages[3].tool_call_id"), tools=_TOOLS),
    turns("answer_without_call", [USER, _answer(), ANSWER], error("unmatched_tool_answer", "messages[1].tool_call_id")),
    turns("answer_twice", [USER, _calling(_call()), _answer(), _answer(), ANSWER],
          error("duplicate_tool_answer", "messages[3].tool_call_id"), tools=_TOOLS),
    turns("answer_behind_the_next_turn", [USER, _calling(_call()), USER, _answer(), ANSWER],
          error("unanswered_tool_call", _CALL), error("late_tool_answer", "messages[3].tool_call_id"), tools=_TOOLS),
    turns("call_without_answer", [USER, _calling(_call(), _call("c2")), _answer("c2"), USER, ANSWER],
          error("unanswered_tool_call", _CALL), tools=_TOOLS),
    turns("call_answered_by_the_caller", [USER, _calling(_call()), ANSWER],
          error("consecutive_assistant_messages", "messages[2].role"), error("unanswered_tool_call", _CALL), tools=_TOOLS),
    turns("old_answer_without_name", [USER, _OLD_CALL, {"role": "function", "content": "Sunny."}, ANSWER],
          error("missing_name", "messages[2].name"), functions=[_FUNCTION]),
    turns("old_answer_of_another", [USER, _OLD_CALL, {"role": "function", "name": "news", "content": "Sunny."}, ANSWER],
          error("unmatched_tool_answer", "messages[2].name"), error("unanswered_tool_call", "messages[1].function_call"),
          functions=[_FUNCTION]),
    turns("tool_answer_null", [USER, _calling(_call()), {**_answer(), "content": None}, ANSWER],
          error("invalid_content", "messages[2].content"), tools=_TOOLS),
    turns("answer_last", [USER, _calling(_call()), _answer()], warning("trailing_turn", "messages[2]"), tools=_TOOLS),
)  # fmt: skip

# Of the same value: JSON Schema 2020-12, section 9.4.1, leaves open what that means.
_LOOPS = (
    turns("schema_that_leads_back_to_its_own_place", [USER, _calling(_call())], error("invalid_tool_schema", _PARAMETERS),
          tools=[_tool(parameters={"type": "object", "properties": {"city": {"$ref": "#/$defs/c"}},
                                   "$defs": {"c": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/c"}]}}})]),
)  # fmt: skip

CASES = (*_LOOPS, *_DEFINITIONS, *_CALLS, *_ANSWERS)

CLEAN = (
    turns("two_calls", [USER, _calling(_call(), _call("c2")), _answer("c2"), _answer(), ANSWER], tools=_TOOLS),
    turns("id_used_again", [USER, _calling(_call()), _answer(), ANSWER, USER, _calling(_call()), _answer(), ANSWER],
          tools=_TOOLS, parallel_tool_calls=False),
    turns("call_last", [USER, _calling(_call())], tools=_TOOLS, abilities=frozenset({Ability.TOOLS})),
    turns("functions_of_old", [USER, _OLD_CALL, {"role": "function", "name": "forecast", "content": "Sunny."}, ANSWER],
          functions=[_FUNCTION]),
    turns("tool_without_parameters", [USER, _calling(_call(name="now", arguments="{}"))],
          tools=[{"type": "function", "function": {"name": "now"}}]),
    turns("schema_that_leads_into_itself", [USER, _calling(_call())],
          tools=[_tool(parameters={"type": "object", "properties": {"city": {"$ref": "#/$defs/c"}},
                                   "$defs": {"c": {"anyOf": [{"type": "string"},
                                                             {"type": "array", "items": {"$ref": "#/$defs/c"}}]}}})]),
    turns("hundred_and_twenty_eight_tools", [USER, ANSWER], tools=[_tool(f"f{index}") for index in range(128)]),
)  # fmt: skip
