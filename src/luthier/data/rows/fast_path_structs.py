"""The plainest form of a valid row as msgspec structs, and its conversion to an Example.

fast_path.py decodes lines into them. UNSET is a key that is absent, None one that is null. Unknown keys are dropped;
those of a call make the line one for the full parser.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from luthier.data.jsonl import json_reader
from luthier.data.problems.problem_collector import ProblemCollector
from luthier.data.rows import message_tool_calls
from luthier.data.rows.message_tool_calls import ToolCall
from luthier.data.rows.supervised import Example, Message, Role
from luthier.data.tools import tool_definitions

_KEPT_TOOLS = 256
_MAX_KEPT_BYTES = 1 << 16
"""Files repeat the same few tools: so many different arrays of them are kept as read, none larger than this."""


class System(Struct, tag_field="role", tag="system", gc=False):
    """A message of the role system."""

    content: str
    name: str | UnsetType | None = UNSET


class Developer(Struct, tag_field="role", tag="developer", gc=False):
    """A message of the role developer."""

    content: str
    name: str | UnsetType | None = UNSET


class User(Struct, tag_field="role", tag="user", gc=False):
    """A message of the role user."""

    content: str
    name: str | UnsetType | None = UNSET


class CalledFunction(Struct, forbid_unknown_fields=True, gc=False):
    """The function of a call; `arguments` are a JSON object in a string, as on the wire."""

    name: str
    arguments: str


class Call(Struct, forbid_unknown_fields=True, gc=False):
    """One call of an answer."""

    id: Annotated[str, Meta(min_length=1)]
    type: Literal["function"]
    function: CalledFunction


class Assistant(Struct, tag_field="role", tag="assistant", gc=False):
    """A message of the role assistant; it is learned unless `weight` is 0."""

    content: str | UnsetType | None = UNSET
    weight: Literal[0, 1] | UnsetType | None = UNSET
    tool_calls: Annotated[list[Call], Meta(min_length=1)] | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET


class Result(Struct, tag_field="role", tag="tool", gc=False):
    """A message of the role tool: what came of the call with the id `tool_call_id`."""

    content: str
    tool_call_id: str
    name: str | UnsetType | None = UNSET


PlainTurn = System | Developer | User | Assistant | Result


class PlainRow(Struct, gc=False):
    """A line as msgspec decodes it; the JSON of `tools` is left for `cached_tools`."""

    messages: Annotated[list[PlainTurn], Meta(min_length=1)]
    tools: Raw | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET


PLAIN_ROW = msgspec.json.Decoder(PlainRow)


@dataclass(frozen=True, slots=True)
class PlainTools:
    """An array of tools without a fault. `n_quotes` are those of its JSON.

    `schemas` has the compiled parameters by function name, None for a function without parameters.
    """

    tools: tuple[Mapping[str, object], ...]
    schemas: Mapping[str, tool_definitions.ParameterSchema | None]
    n_quotes: int


def cached_tools(raw: Raw) -> PlainTools | None:
    """The tools of this JSON; None if there is any problem with them, or it is longer than _MAX_KEPT_BYTES.

    Kept for the process, so that a file's rows share one reading of their tools.
    """
    content = bytes(raw)
    return _read_tools(content) if len(content) <= _MAX_KEPT_BYTES else None


@functools.lru_cache(_KEPT_TOOLS)
def _read_tools(content: bytes) -> PlainTools | None:
    """The tools that this JSON describes, or None if there is any problem with them, a warning too."""
    try:
        reading = json_reader.read(content.decode())
    except UnicodeDecodeError:
        return None
    if reading.faults or not isinstance(reading.value, list):
        return None
    collector = ProblemCollector(0)
    tools = message_tool_calls.read_tools("tools", reading.value, "tools", collector)
    if collector.problems:
        return None
    schemas: dict[str, tool_definitions.ParameterSchema | None] = {}
    for tool in tools:
        function = tool["function"]
        assert isinstance(function, dict)
        parameters = function.get("parameters")
        schema = tool_definitions.compile_schema(parameters) if isinstance(parameters, dict) else None
        assert not isinstance(schema, tool_definitions.SchemaFault)
        schemas[function["name"]] = schema
    return PlainTools(tuple(tools), schemas, content.count(b'"'))


def to_example(row: PlainRow) -> Example:
    """The Example that the full parser would make of the row, which the fast path has accepted."""
    tools = cached_tools(row.tools) if isinstance(row.tools, Raw) else None
    return Example(tuple(_to_message(turn) for turn in row.messages), () if tools is None else tools.tools)


def _to_message(turn: PlainTurn) -> Message:
    """The message of a turn; missing content becomes "", and an answer is learned unless its weight is 0."""
    name = None if isinstance(turn.name, UnsetType) else turn.name
    if isinstance(turn, Assistant):
        weight = 1.0 if turn.weight != 0 else 0.0
        calls = tuple(_to_tool_call(call) for call in turn.tool_calls) if turn.tool_calls else ()
        return Message(Role.ASSISTANT, turn.content or "", weight, calls, None, name)
    if isinstance(turn, Result):
        return Message(Role.TOOL, turn.content, 0.0, (), turn.tool_call_id, name)
    return Message(_ROLES[type(turn)], turn.content, 0.0, (), None, name)


_ROLES = {User: Role.USER, System: Role.SYSTEM, Developer: Role.DEVELOPER}


def _to_tool_call(call: Call) -> ToolCall:
    """The call with its arguments decoded; that they are an object was checked before."""
    arguments = json_reader.read(call.function.arguments).value
    assert isinstance(arguments, dict)
    return ToolCall(call.id, call.function.name, arguments)
