"""The rows of a file that are plainly right, found at the speed of a decoder in C; others are left to careful reading.

Whole lines go to msgspec a block at a time, held to the plainest form that a good row has. What it lets pass is ruled
out by counting: a key that stands twice by the quotes of the block, two rows on a line and blank ones by its line ends.
A row that is accepted has no problem at all, and careful reading would give the same Example: tests hold both to it.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from luthier.catalog import Ability
from luthier.data import json_reader, jsonl, tool_schemas, toolcalls
from luthier.data.finder import Finder
from luthier.data.messages import Example, Message, Role
from luthier.data.toolcalls import ToolCall

_BLOCK_BYTES = 1 << 18
_KEPT_TOOLS = 256
_MAX_KEPT_BYTES = 1 << 16
"""Files repeat the same few tools: so many different arrays of them are kept as read, none larger than this."""


class _System(Struct, tag_field="role", tag="system", forbid_unknown_fields=True, gc=False):
    content: str


class _Developer(Struct, tag_field="role", tag="developer", forbid_unknown_fields=True, gc=False):
    content: str


class _User(Struct, tag_field="role", tag="user", forbid_unknown_fields=True, gc=False):
    content: str


class _Called(Struct, forbid_unknown_fields=True, gc=False):
    name: str
    arguments: str


class _Call(Struct, forbid_unknown_fields=True, gc=False):
    id: Annotated[str, Meta(min_length=1)]
    type: Literal["function"]
    function: _Called


class _Assistant(Struct, tag_field="role", tag="assistant", forbid_unknown_fields=True, gc=False):
    content: str | UnsetType | None = UNSET
    weight: Literal[0, 1] | UnsetType = UNSET
    tool_calls: Annotated[list[_Call], Meta(min_length=1)] | UnsetType = UNSET


class _Result(Struct, tag_field="role", tag="tool", forbid_unknown_fields=True, gc=False):
    content: str
    tool_call_id: str


_Turn = _System | _Developer | _User | _Assistant | _Result


class _Row(Struct, forbid_unknown_fields=True, gc=False):
    messages: Annotated[list[_Turn], Meta(min_length=1)]
    tools: Raw | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET


_ROWS = msgspec.json.Decoder(_Row)


@dataclass(frozen=True, slots=True)
class _Tools:
    """An array of tools without a fault. `n_strings` are the keys and strings of its JSON."""

    tools: tuple[Mapping[str, object], ...]
    schemas: Mapping[str, tool_schemas.Schema | None]
    n_strings: int


@dataclass(frozen=True, slots=True)
class Plain:
    """Rows without a problem that follow one another, each on a line of its own from line `first` on."""

    first: int
    content: bytes
    rows: Sequence[_Row]

    def __len__(self) -> int:
        return len(self.rows)

    def examples(self) -> Iterator[tuple[int, bytes, Example]]:
        """Line number, line and example of each row."""
        lines = self.content.split(b"\n")
        for index, row in enumerate(self.rows):
            yield self.first + index, lines[index].removesuffix(b"\r"), _example(row)


def sift(chunks: Iterable[bytes], abilities: Set[Ability] | None) -> Iterator[Plain | jsonl.Line]:
    """Yields the lines of a file in their order: plain rows together, every other line that is not blank by itself."""
    sieve = _Sieve(abilities is None or Ability.TOOLS in abilities)
    for chunk in chunks:
        yield from sieve.add(chunk)
    yield from sieve.one_by_one(sieve.splitter.finish())


class _Sieve:
    """Takes chunks as they come; the splitter holds the line that is not yet whole."""

    def __init__(self, takes_tools: bool) -> None:
        self.splitter = jsonl.Splitter()
        self._takes_tools = takes_tools

    def add(self, chunk: bytes) -> Iterator[Plain | jsonl.Line]:
        start = 0
        while start < len(chunk):
            end = chunk.rfind(b"\n", start, start + _BLOCK_BYTES) + 1
            if end and self.splitter.is_between_lines:
                block = chunk[start:end]
                rows = self._rows(block)
                if rows is not None:
                    yield Plain(self.splitter.pass_over(len(rows)), block, rows)
                else:
                    yield from self.one_by_one(self.splitter.add(block))
            else:
                # A line that began in an earlier chunk or is longer than a block, or one behind a blank line.
                end = chunk.find(b"\n", start) + 1 or len(chunk)
                yield from self.one_by_one(self.splitter.add(chunk[start:end]))
            start = end

    def one_by_one(self, lines: Iterable[jsonl.Line]) -> Iterator[Plain | jsonl.Line]:
        for line in lines:
            rows = None if line.blanks_before or not line.whole else self._rows(line.content + b"\n")
            yield line if rows is None else Plain(line.number, line.content, rows)

    def _rows(self, block: bytes) -> list[_Row] | None:
        """The rows of whole lines, or None if not all of them are plain."""
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        try:
            rows = _ROWS.decode_lines(block)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        n_ends = block.count(b"\n")
        # Each line end but the last stands between two objects, and there are as many objects as line ends: one a line.
        if n_ends != len(rows) or block.count(b"}\n{") != n_ends - 1 or b"\r" in block:
            return None
        n_strings = 0
        for row in rows:
            n_of_row = self._strings(row)
            if not n_of_row:
                return None
            n_strings += n_of_row
        return rows if _quotes(block) == 2 * n_strings else None

    def _strings(self, row: _Row) -> int:
        """How many keys and strings the row has if no key stands twice in it; 0 if it is to be read with care."""
        tools = None
        n_strings = 1
        if isinstance(row.tools, Raw):
            tools = _known_tools(row.tools) if self._takes_tools else None
            if tools is None:
                return 0
            n_strings += 1 + tools.n_strings
        if row.parallel_tool_calls is not UNSET:
            n_strings += 1
        learned = False
        last: type | None = None
        waiting: set[str] = set()
        for turn in row.messages:
            if isinstance(turn, _Assistant):
                n_of_turn = 0 if waiting or last is _Assistant else _strings_of_answer(turn, tools, waiting)
                if not n_of_turn:
                    return 0
                n_strings += n_of_turn
                learned = learned or turn.weight != 0
            elif isinstance(turn, _Result):
                if turn.tool_call_id not in waiting:
                    return 0
                waiting.remove(turn.tool_call_id)
                n_strings += 6
            else:
                if waiting or (last not in _BEGINNINGS and not isinstance(turn, _User)):
                    return 0
                n_strings += 4
            last = type(turn)
        return n_strings if learned and last is _Assistant else 0


_BEGINNINGS = (None, _System, _Developer)


def _strings_of_answer(turn: _Assistant, tools: _Tools | None, waiting: set[str]) -> int:
    """The same for an assistant's message; the ids of its calls are added to `waiting`."""
    content = turn.content
    n_strings = 2
    if content is not UNSET:
        n_strings += 1 if content is None else 2
    if turn.weight is not UNSET:
        n_strings += 1
    if isinstance(turn.tool_calls, UnsetType):
        return n_strings if isinstance(content, str) and content and not content.isspace() else 0
    if tools is None:
        return 0
    for call in turn.tool_calls:
        if call.id in waiting or not _is_sound(call.function, tools):
            return 0
        waiting.add(call.id)
    return n_strings + 1 + 9 * len(turn.tool_calls)


def _is_sound(called: _Called, tools: _Tools) -> bool:
    """Whether a call is of a known tool and its arguments satisfy the schema."""
    if called.name not in tools.schemas:
        return False
    arguments = json_reader.read(called.arguments)
    if arguments.faults or not isinstance(arguments.value, dict):
        return False
    schema = tools.schemas[called.name]
    return schema is None or schema.validator.is_valid(arguments.value)


def _quotes(block: bytes) -> int:
    """How many quotes of a block open or close a string: those that no backslash makes part of one."""
    if b"\\\\" in block:
        block = block.replace(b"\\\\", b"")
    return block.count(b'"') - block.count(b'\\"')


def _known_tools(raw: Raw) -> _Tools | None:
    content = bytes(raw)
    return _read_tools(content) if len(content) <= _MAX_KEPT_BYTES else None


@functools.lru_cache(_KEPT_TOOLS)
def _read_tools(content: bytes) -> _Tools | None:
    """The tools that this JSON describes, or None if anything at all is to be said about them."""
    try:
        reading = json_reader.read(content.decode())
    except UnicodeDecodeError:
        return None
    if reading.faults or not isinstance(reading.value, list):
        return None
    finder = Finder(0)
    tools = toolcalls.read_tools("tools", reading.value, "tools", finder)
    if finder.problems:
        return None
    schemas: dict[str, tool_schemas.Schema | None] = {}
    for tool in tools:
        function = tool["function"]
        assert isinstance(function, dict)
        parameters = function.get("parameters")
        schema = tool_schemas.read(parameters) if isinstance(parameters, dict) else None
        assert not isinstance(schema, tool_schemas.Finding)
        schemas[function["name"]] = schema
    return _Tools(tuple(tools), schemas, _quotes(content) // 2)


def _example(row: _Row) -> Example:
    tools = _known_tools(row.tools) if isinstance(row.tools, Raw) else None
    return Example(tuple(_message(turn) for turn in row.messages), () if tools is None else tools.tools)


def _message(turn: _Turn) -> Message:
    match turn:
        case _Assistant():
            weight = 1.0 if turn.weight != 0 else 0.0
            calls = () if isinstance(turn.tool_calls, UnsetType) else tuple(_call(call) for call in turn.tool_calls)
            return Message(Role.ASSISTANT, turn.content or "", weight, calls)
        case _Result():
            return Message(Role.TOOL, turn.content, 0.0, (), turn.tool_call_id)
        case _System():
            return Message(Role.SYSTEM, turn.content, 0.0)
        case _Developer():
            return Message(Role.DEVELOPER, turn.content, 0.0)
        case _User():
            return Message(Role.USER, turn.content, 0.0)


def _call(call: _Call) -> ToolCall:
    arguments = json_reader.read(call.function.arguments).value
    assert isinstance(arguments, dict)
    return ToolCall(call.id, call.function.name, arguments)
