"""Tools and tool calls of a row: from the wire's two spellings to one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

MAX_TOOLS = 128


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call. `arguments` are decoded, as chat templates want them; the wire holds them as a JSON string."""

    id: str | None
    name: str
    arguments: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Malformed(Exception):
    """Tools or calls that have not the wire's form; `path` is relative to what was read."""

    path: str
    message: str
    fix: str


def read_tools(key: str, value: object) -> list[Mapping[str, object]]:
    """The tools of a row in today's spelling; `functions`, the old one, is turned into it. Raises Malformed."""
    if not isinstance(value, list) or len(value) > MAX_TOOLS:
        raise Malformed(key, f"{key} is no array of at most {MAX_TOOLS}.", "Give an array of tools.")
    tools: list[Mapping[str, object]] = []
    for index, item in enumerate(value):
        function = item.get("function") if key == "tools" and isinstance(item, dict) else item
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Malformed(f"{key}[{index}]", "a tool has no function with a name.", "Describe the function.")
        tools.append({"type": "function", "function": function})
    return tools


def read_calls(key: str, value: object) -> list[ToolCall]:
    """The calls of an assistant message: `tool_calls`, or the single `function_call` of old. Raises Malformed."""
    if key == "function_call":
        return [_call(None, value, key)]
    if not isinstance(value, list):
        raise Malformed(key, "tool_calls is no array.", "Give an array of calls.")
    calls = []
    for index, item in enumerate(value):
        place = f"{key}[{index}]"
        if not isinstance(item, dict) or not isinstance(item.get("id"), str):
            raise Malformed(place, "a tool call has no id.", "Give each call an id that its answer names.")
        calls.append(_call(item["id"], item.get("function"), f"{place}.function"))
    return calls


def _call(id: str | None, function: object, path: str) -> ToolCall:
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Malformed(path, "a call names no function.", "Give the function's name.")
    arguments = function.get("arguments")
    try:
        decoded = json.loads(arguments) if isinstance(arguments, str) else None
    except ValueError:
        decoded = None
    if not isinstance(decoded, dict):
        fix = "Write the arguments as a string that holds one JSON object."
        raise Malformed(f"{path}.arguments", "the arguments are no JSON object in a string.", fix)
    return ToolCall(id, function["name"], decoded)
