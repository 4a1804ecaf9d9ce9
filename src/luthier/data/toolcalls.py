"""Tools and tool calls of a row: from the wire's two spellings to one, with every fault of either."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from luthier.data import json_reader, tool_schemas
from luthier.data.finder import Finder
from luthier.data.jsonl import json_type

MAX_TOOLS = 128
_TOLD = ("name", "description", "parameters")
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What OpenAI takes as the name of a function."""

_TOOL_KEYS = ("type", "function")
_FUNCTION_KEYS = ("name", "description", "parameters", "strict")
_CALL_KEYS = ("id", "type", "function")
_CALLED_KEYS = ("name", "arguments")
_TOOL_SHAPE = 'Write {"type": "function", "function": {"name": "...", "parameters": {...}}}.'
_CALL_SHAPE = 'Write {"id": "...", "type": "function", "function": {"name": "...", "arguments": "{...}"}}.'


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call. `arguments` are decoded, as chat templates want them; the wire holds them as a JSON string."""

    id: str | None
    name: str
    arguments: Mapping[str, object]


def read_tools(key: str, value: object, path: str, finder: Finder) -> list[Mapping[str, object]]:
    """The tools of a row in today's spelling; `functions`, the old one, is turned into it. `path` leads there."""
    if not isinstance(value, list):
        finder.error(path, "invalid_tools", f"{key} is a JSON {json_type(value)}.", "Give an array of tools.")
        return []
    if len(value) > MAX_TOOLS:
        message = f"{len(value)} tools stand here; at most {MAX_TOOLS} are taken."
        finder.error(path, "too_many_tools", message, "Leave out tools that the row does not need.")
    tools: list[Mapping[str, object]] = []
    names: set[str] = set()
    for index, item in enumerate(value):
        place = f"{path}[{index}]"
        function = _function_of_tool(item, place, finder) if key == "tools" else item
        place = f"{place}.function" if key == "tools" else place
        if function is None:
            continue
        if not isinstance(function, dict):
            message = f"a JSON {json_type(function)} stands where a function is described."
            finder.error(place, "invalid_tools", message, _TOOL_SHAPE)
            continue
        _check_function(function, place, names, finder)
        # What a served model is told of a function, and nothing else (api/chat_tools.py): the prompts must be equal.
        told = {name: function[name] for name in _TOLD if function.get(name) is not None}
        tools.append({"type": "function", "function": told})
    return tools


def _function_of_tool(item: object, path: str, finder: Finder) -> object:
    """What stands as `function` in a tool; None after telling the finder that nothing does."""
    if not isinstance(item, dict):
        finder.error(path, "invalid_tools", f"a JSON {json_type(item)} stands where a tool is needed.", _TOOL_SHAPE)
        return None
    finder.check_keys(item, _TOOL_KEYS, path)
    if item.get("type") != "function":
        found = "has no type" if "type" not in item else "is of a type that does not exist"
        finder.error(f"{path}.type", "invalid_tools", f"the tool {found}.", 'Write "type": "function".')
    if item.get("function") is None:
        finder.error(f"{path}.function", "invalid_tools", "the tool describes no function.", _TOOL_SHAPE)
    return item.get("function")


def _check_function(function: Mapping[str, object], path: str, names: set[str], finder: Finder) -> None:
    finder.check_keys(function, _FUNCTION_KEYS, path)
    name = function.get("name")
    if not isinstance(name, str):
        finder.error(f"{path}.name", "invalid_tools", "the function has no name in a string.", _TOOL_SHAPE)
    elif not NAME.fullmatch(name):
        message = "the function's name has characters or a length that no function may have."
        fix = "Use a-z, A-Z, 0-9, underscore and dash, at most 64 of them."
        finder.error(f"{path}.name", "invalid_tool_name", message, fix)
    elif name in names:
        message = "an earlier tool of the row has the same name."
        finder.error(f"{path}.name", "duplicate_tool_name", message, "Remove one of the two, or give it another name.")
    else:
        names.add(name)
    if not isinstance(function.get("description", ""), str | None):
        finder.error(f"{path}.description", "invalid_tools", "description is no string.", "Write a string.")
    if not isinstance(function.get("strict"), bool | None):
        finder.error(f"{path}.strict", "invalid_tools", "strict is no boolean.", "Write true or false.")
    parameters = function.get("parameters")
    if parameters is None:
        return
    place = f"{path}.parameters"
    fix = 'Write {"type": "object", "properties": {...}}.'
    if not isinstance(parameters, dict):
        message = f"parameters is a JSON {json_type(parameters)}, not a JSON Schema."
        finder.error(place, "invalid_tool_schema", message, fix)
        return
    if parameters.get("type", "object") != "object":
        message = "the parameters as a whole are not of type object."
        finder.error(f"{place}.type", "invalid_tool_schema", message, fix)
    schema = tool_schemas.read(parameters)
    if isinstance(schema, tool_schemas.Finding):
        finder.error(_join(place, schema.path), "invalid_tool_schema", schema.message, schema.fix)


def read_calls(key: str, value: object, path: str, finder: Finder) -> list[ToolCall]:
    """The calls of an assistant message that are whole: `tool_calls`, or the single `function_call` of old."""
    if key == "function_call":
        call = _call(None, value, path, finder)
        return [] if call is None else [call]
    if not isinstance(value, list):
        fix = "Give an array of calls."
        finder.error(path, "invalid_tool_calls", f"tool_calls is a JSON {json_type(value)}.", fix)
        return []
    calls = []
    ids: set[str] = set()
    for index, item in enumerate(value):
        call = _call_with_id(item, f"{path}[{index}]", ids, finder)
        if call is not None:
            calls.append(call)
    return calls


def _call_with_id(item: object, path: str, ids: set[str], finder: Finder) -> ToolCall | None:
    if not isinstance(item, dict):
        finder.error(
            path, "invalid_tool_calls", f"a JSON {json_type(item)} stands where a call is needed.", _CALL_SHAPE
        )
        return None
    finder.check_keys(item, _CALL_KEYS, path)
    if item.get("type") != "function":
        found = "has no type" if "type" not in item else "is of a type that does not exist"
        finder.error(f"{path}.type", "invalid_tool_calls", f"the call {found}.", 'Write "type": "function".')
    id = item.get("id")
    if not isinstance(id, str) or not id:
        fix = "Give each call an id that its answer names."
        finder.error(f"{path}.id", "invalid_tool_calls", "the call has no id in a string.", fix)
        id = None
    elif id in ids:
        message = "an earlier call of the message has the same id."
        finder.error(f"{path}.id", "duplicate_tool_call_id", message, "Give each call an id of its own.")
    else:
        ids.add(id)
    call = _call(id, item.get("function"), f"{path}.function", finder)
    return None if id is None else call


def _call(id: str | None, function: object, path: str, finder: Finder) -> ToolCall | None:
    if not isinstance(function, dict):
        finder.error(path, "invalid_tool_calls", "the call names no function.", _CALL_SHAPE)
        return None
    finder.check_keys(function, _CALLED_KEYS, path)
    name = function.get("name")
    if not isinstance(name, str):
        finder.error(
            f"{path}.name", "invalid_tool_calls", "the call has no name of a function in a string.", _CALL_SHAPE
        )
    arguments = _arguments(function.get("arguments"), f"{path}.arguments", finder)
    return ToolCall(id, name, arguments) if isinstance(name, str) and arguments is not None else None


def _arguments(value: object, path: str, finder: Finder) -> Mapping[str, object] | None:
    fix = "Write the arguments as a string that holds one JSON object."
    if not isinstance(value, str):
        found = "the call has no arguments." if value is None else f"the arguments are a JSON {json_type(value)}."
        finder.error(path, "invalid_arguments", found, fix)
        return None
    reading = json_reader.read(value)
    for fault in reading.faults:
        message = f"the JSON inside this string is faulty: {fault.sentence}"
        finder.error(path, "invalid_arguments", message, fault.fix)
    if reading.faults:
        return None
    if not isinstance(reading.value, dict):
        message = f"the string holds a JSON {json_type(reading.value)}, not an object."
        finder.error(path, "invalid_arguments", message, fix)
        return None
    return reading.value


def check_call(call: ToolCall, tools: Sequence[Mapping[str, object]], path: str, finder: Finder) -> None:
    """Whether a call, which `path` leads to, is of a tool of the row, and its arguments satisfy the schema."""
    if not tools:
        message = "the row calls a tool and defines none, so the model is never shown what it may call."
        finder.warning(path, "no_tools_defined", message, "Add tools to the row.")
        return
    for tool in tools:
        function = tool["function"]
        assert isinstance(function, dict)
        if function.get("name") == call.name:
            _check_arguments(call, function.get("parameters"), f"{path}.arguments", finder)
            return
    message = "the call is of a function that the row's tools do not define."
    finder.error(f"{path}.name", "undefined_tool", message, "Define it in tools, or mend the name.")


def _check_arguments(call: ToolCall, parameters: object, path: str, finder: Finder) -> None:
    schema = tool_schemas.read(parameters) if isinstance(parameters, dict) else None
    if isinstance(schema, tool_schemas.Schema):
        for finding in schema.findings(call.arguments):
            finder.error(_join(path, finding.path), "arguments_break_schema", finding.message, finding.fix)


def _join(path: str, inner: str) -> str:
    return f"{path}{inner}" if not inner or inner[0] in "[{" else f"{path}.{inner}"
