"""Tools and tool calls of a row: from the wire's two spellings to one, with every fault of either."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from luthier.data.jsonl import double_encoding, json_reader
from luthier.data.jsonl.line_reader import json_type
from luthier.data.problems.problem_collector import ProblemCollector
from luthier.data.tools import tool_definitions

MAX_TOOLS = 128
_RENDERED_KEYS = ("name", "description", "parameters")
FUNCTION_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What OpenAI takes as the name of a function."""

_TOOL_KEYS = ("type", "function")
_FUNCTION_KEYS = ("name", "description", "parameters", "strict")
_CALL_KEYS = ("id", "type", "function")
_CALL_FUNCTION_KEYS = ("name", "arguments")
FIXED_BY_CHECK = "`luthier check --fix` does so."
_TOOL_SHAPE = 'Write {"type": "function", "function": {"name": "...", "parameters": {...}}}.'
_CALL_SHAPE = 'Write {"id": "...", "type": "function", "function": {"name": "...", "arguments": "{...}"}}.'


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call. `arguments` are decoded, as chat templates want them; the wire holds them as a JSON string.

    `id` is None for the older function_call, which has none.
    """

    id: str | None
    name: str
    arguments: Mapping[str, object]


def read_tools(key: str, value: object, path: str, collector: ProblemCollector) -> list[Mapping[str, object]]:
    """The tools of a row in today's spelling; `functions`, the old one, is turned into it. `path` leads there.

    Each has only the name, description and parameters of its function, as templates get it. Reports every fault to
    `collector`; what is no function at all is left out.
    """
    if double_encoding.decode_tools(value) is not None:
        text = value if isinstance(value, str) else str(value[0]) if isinstance(value, list) else ""
        collector.error(path, "encoded_twice", double_encoding.encoded_twice_message(key, text), double_encoding.FIX)
        return []
    if not isinstance(value, list):
        if holds_json(value, list):
            message = f"{key} is a string that holds the array."
            collector.error(path, "invalid_tools", message, f"Write the array itself; {FIXED_BY_CHECK}")
            return []
        collector.error(path, "invalid_tools", f"{key} is a JSON {json_type(value)}.", "Give an array of tools.")
        return []
    if len(value) > MAX_TOOLS:
        message = f"there are {len(value)} tools; at most {MAX_TOOLS} are allowed."
        collector.error(path, "too_many_tools", message, "Leave out tools that the row does not need.")
    tools: list[Mapping[str, object]] = []
    names: set[str] = set()
    for index, item in enumerate(value):
        item_path = f"{path}[{index}]"
        function = _function_of_tool(item, item_path, collector) if key == "tools" else item
        item_path = f"{item_path}.function" if key == "tools" else item_path
        if function is None:
            continue
        if not isinstance(function, dict):
            message = f"a JSON {json_type(function)} is used where a function is described."
            collector.error(item_path, "invalid_tools", message, _TOOL_SHAPE)
            continue
        _check_function(function, item_path, names, collector)
        # What a served model gets of a function, and no more (requests/chat_tools.py): the prompts must be equal.
        rendered = {name: function[name] for name in _RENDERED_KEYS if function.get(name) is not None}
        tools.append({"type": "function", "function": rendered})
    return tools


def _function_of_tool(item: object, path: str, collector: ProblemCollector) -> object:
    """What a tool has under `function`; None after reporting that there is none. Reports its other faults too."""
    if holds_json(item, dict):
        message = "the tool is a string that holds the object."
        collector.error(path, "invalid_tools", message, f"Write the object itself; {FIXED_BY_CHECK}")
        return None
    if not isinstance(item, dict):
        collector.error(path, "invalid_tools", f"a JSON {json_type(item)} is used where a tool is needed.", _TOOL_SHAPE)
        return None
    collector.check_keys(item, _TOOL_KEYS, path)
    if item.get("type") != "function":
        fault = "has no type" if "type" not in item else "is of a type that does not exist"
        collector.error(f"{path}.type", "invalid_tools", f"the tool {fault}.", 'Write "type": "function".')
    if item.get("function") is None:
        collector.error(f"{path}.function", "invalid_tools", "the tool describes no function.", _TOOL_SHAPE)
    return item.get("function")


def _check_function(function: Mapping[str, object], path: str, names: set[str], collector: ProblemCollector) -> None:
    """Reports the faults of a function's description, also parameters that are no valid JSON Schema.

    Adds its name to `names`, those of the row's earlier tools, and reports a name that is there already.
    """
    collector.check_keys(function, _FUNCTION_KEYS, path)
    name = function.get("name")
    if not isinstance(name, str):
        collector.error(f"{path}.name", "invalid_tools", "the function has no name in a string.", _TOOL_SHAPE)
    elif not FUNCTION_NAME.fullmatch(name):
        message = "the function's name has characters or a length that no function may have."
        fix = "Use a-z, A-Z, 0-9, underscore and dash, at most 64 of them."
        collector.error(f"{path}.name", "invalid_tool_name", message, fix)
    elif name in names:
        message = "an earlier tool of the row has the same name."
        collector.error(
            f"{path}.name", "duplicate_tool_name", message, "Remove one of the two, or give it another name."
        )
    else:
        names.add(name)
    if not isinstance(function.get("description", ""), str | None):
        collector.error(f"{path}.description", "invalid_tools", "description is no string.", "Write a string.")
    if not isinstance(function.get("strict"), bool | None):
        collector.error(f"{path}.strict", "invalid_tools", "strict is no boolean.", "Write true or false.")
    parameters = function.get("parameters")
    if parameters is None:
        return
    parameters_path = f"{path}.parameters"
    fix = 'Write {"type": "object", "properties": {...}}.'
    if not isinstance(parameters, dict):
        message = f"parameters is a JSON {json_type(parameters)}, not a JSON Schema."
        if holds_json(parameters, dict):
            message, fix = "parameters is a string that holds the schema.", f"Write the schema itself; {FIXED_BY_CHECK}"
        collector.error(parameters_path, "invalid_tool_schema", message, fix)
        return
    if parameters.get("type", "object") != "object":
        message = "the parameters as a whole are not of type object."
        collector.error(f"{parameters_path}.type", "invalid_tool_schema", message, fix)
    schema = tool_definitions.compile_schema(parameters)
    if isinstance(schema, tool_definitions.SchemaFault):
        collector.error(_join(parameters_path, schema.path), "invalid_tool_schema", schema.message, schema.fix)


def read_calls(key: str, value: object, path: str, collector: ProblemCollector) -> list[ToolCall]:
    """The calls of an assistant message that are whole: `tool_calls`, or the single `function_call` of old.

    Reports the faults of the others, which are left out; `key` says which of the two spellings `value` is in.
    """
    if key == "function_call":
        call = _call(None, value, path, collector)
        return [] if call is None else [call]
    if not isinstance(value, list):
        fix = "Give an array of calls."
        if holds_json(value, list):
            fix = f"Write the array of calls that the string holds; {FIXED_BY_CHECK}"
        collector.error(path, "invalid_tool_calls", f"tool_calls is a JSON {json_type(value)}.", fix)
        return []
    calls = []
    ids: set[str] = set()
    for index, item in enumerate(value):
        call = _call_with_id(item, f"{path}[{index}]", ids, collector)
        if call is not None:
            calls.append(call)
    return calls


def _call_with_id(item: object, path: str, ids: set[str], collector: ProblemCollector) -> ToolCall | None:
    """One entry of tool_calls; None after reporting that it has no id, name or readable arguments.

    Adds its id to `ids`, those of the message's earlier calls, and reports an id that is there already.
    """
    if not isinstance(item, dict):
        collector.error(
            path, "invalid_tool_calls", f"a JSON {json_type(item)} is used where a call is needed.", _CALL_SHAPE
        )
        return None
    collector.check_keys(item, _CALL_KEYS, path)
    if item.get("type") != "function":
        fault = "has no type" if "type" not in item else "is of a type that does not exist"
        by_fix = f" {FIXED_BY_CHECK}" if item.get("type") is None else ""
        collector.error(
            f"{path}.type", "invalid_tool_calls", f"the call {fault}.", f'Write "type": "function".{by_fix}'
        )
    id = item.get("id")
    if not isinstance(id, str) or not id:
        fix = f"Give each call an id that its answer names. Where the answer follows, {FIXED_BY_CHECK}"
        collector.error(f"{path}.id", "invalid_tool_calls", "the call has no id in a string.", fix)
        id = None
    elif id in ids:
        message = "an earlier call of the message has the same id."
        collector.error(f"{path}.id", "duplicate_tool_call_id", message, "Give each call an id of its own.")
    else:
        ids.add(id)
    call = _call(id, item.get("function"), f"{path}.function", collector)
    return None if id is None else call


def _call(id: str | None, function: object, path: str, collector: ProblemCollector) -> ToolCall | None:
    """The call of {"name", "arguments"}; None after reporting what is missing. `id` is None for a function_call."""
    if not isinstance(function, dict):
        collector.error(path, "invalid_tool_calls", "the call names no function.", _CALL_SHAPE)
        return None
    collector.check_keys(function, _CALL_FUNCTION_KEYS, path)
    name = function.get("name")
    if not isinstance(name, str):
        collector.error(
            f"{path}.name", "invalid_tool_calls", "the call has no name of a function in a string.", _CALL_SHAPE
        )
    arguments = _arguments(function, f"{path}.arguments", collector)
    return ToolCall(id, name, arguments) if isinstance(name, str) and arguments is not None else None


def _arguments(function: Mapping[str, object], path: str, collector: ProblemCollector) -> Mapping[str, object] | None:
    """What a call's arguments are; {} for null and for a string of nothing, which APIs give where there are none.

    None after reporting that they are missing, or no JSON object in a string.
    """
    value = function.get("arguments")
    fix = "Write the arguments as a string that holds one JSON object."
    if "arguments" in function and (value is None or (isinstance(value, str) and not value.strip())):
        return {}
    if not isinstance(value, str):
        fault_text = "the call has no arguments." if value is None else f"the arguments are a JSON {json_type(value)}."
        by_fix = f" {FIXED_BY_CHECK}" if isinstance(value, dict) else ""
        collector.error(path, "invalid_arguments", fault_text, fix + by_fix)
        return None
    reading = json_reader.read(value)
    for fault in reading.faults:
        message = f"the JSON inside this string is faulty: {fault.sentence}"
        collector.error(path, "invalid_arguments", message, fault.fix)
    if reading.faults:
        return None
    if not isinstance(reading.value, dict):
        message = f"the string holds a JSON {json_type(reading.value)}, not an object."
        by_fix = f" {FIXED_BY_CHECK}" if reading.value is None or holds_json(reading.value, dict) else ""
        collector.error(path, "invalid_arguments", message, fix + by_fix)
        return None
    return reading.value


def check_call(call: ToolCall, tools: Sequence[Mapping[str, object]], path: str, collector: ProblemCollector) -> None:
    """Reports a call, which `path` leads to, of a tool that is not defined or with arguments that break its schema.

    A row without any tools gets a warning only.
    """
    if not tools:
        message = "the row calls a tool and defines none, so the model is never shown what it may call."
        collector.warning(path, "no_tools_defined", message, "Add tools to the row.")
        return
    for tool in tools:
        function = tool["function"]
        assert isinstance(function, dict)
        if function.get("name") == call.name:
            _check_arguments(call, function.get("parameters"), f"{path}.arguments", collector)
            return
    message = "the call is of a function that the row's tools do not define."
    collector.error(f"{path}.name", "undefined_tool", message, "Define it in tools, or fix the name.")


def _check_arguments(call: ToolCall, parameters: object, path: str, collector: ProblemCollector) -> None:
    """Reports where a call's arguments break the schema. A schema that is none was reported by itself."""
    schema = tool_definitions.compile_schema(parameters) if isinstance(parameters, dict) else None
    if isinstance(schema, tool_definitions.ParameterSchema):
        for finding in schema.violations(call.arguments):
            collector.error(_join(path, finding.path), "arguments_break_schema", finding.message, finding.fix)


def holds_json(value: object, kind: type) -> bool:
    """Whether a value is a string that holds JSON of that kind (list or dict), without a fault."""
    if not isinstance(value, str):
        return False
    reading = json_reader.read(value)
    return not reading.faults and isinstance(reading.value, kind)


def _join(path: str, inner: str) -> str:
    """The path of `inner` under `path`; `inner` is relative, "" for the value itself or as `[2]` or `name`."""
    return f"{path}{inner}" if not inner or inner[0] in "[{" else f"{path}.{inner}"
