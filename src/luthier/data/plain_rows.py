"""The rows of a file that are plainly right, found at the speed of a decoder in C; others are left to careful reading.

msgspec decodes each line, held to the plainest form that a good row has. It lets a key pass that stands twice; that is
ruled out by counting the quotes of the line. A row that is accepted has no problem at all, and careful reading would
give the same Example: tests hold both to it.
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

_BLOCK_BYTES = 1 << 16
"""So many bytes of lines are taken at once, which bounds the memory."""
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


_ROW = msgspec.json.Decoder(_Row)


@dataclass(frozen=True, slots=True)
class _Tools:
    """An array of tools without a fault. `n_quotes` are those of its JSON."""

    tools: tuple[Mapping[str, object], ...]
    schemas: Mapping[str, tool_schemas.Schema | None]
    n_quotes: int


@dataclass(slots=True)
class Plain:
    """Rows without a problem that follow one another, each on a line of its own from line `first` on."""

    first: int
    lines: list[bytes]
    rows: list[_Row]

    def __len__(self) -> int:
        return len(self.rows)

    def examples(self) -> Iterator[tuple[int, bytes, Example]]:
        """Line number, line and example of each row."""
        for index, row in enumerate(self.rows):
            yield self.first + index, self.lines[index].removesuffix(b"\r"), _example(row)


def sift(chunks: Iterable[bytes], abilities: Set[Ability] | None) -> Iterator[Plain | jsonl.Line]:
    """Yields the lines of a file in their order: plain rows together, every other line that is not blank by itself."""
    sieve = _Sieve(abilities is None or Ability.TOOLS in abilities)
    for chunk in chunks:
        yield from sieve.add(chunk)
    yield from sieve.one_by_one(sieve.splitter.finish())


class _Sieve:
    """Takes chunks as they come; the splitter counts lines, and holds the one that is not yet whole."""

    def __init__(self, takes_tools: bool) -> None:
        self.splitter = jsonl.Splitter()
        self._takes_tools = takes_tools

    def add(self, chunk: bytes) -> Iterator[Plain | jsonl.Line]:
        start = 0
        while start < len(chunk):
            end = chunk.rfind(b"\n", start, start + _BLOCK_BYTES) + 1
            if end and not self.splitter.is_inside_a_line:
                yield from self._block(chunk[start : end - 1].split(b"\n"))
            else:
                # A line that began in an earlier chunk, or is longer than a block.
                end = chunk.find(b"\n", start) + 1 or len(chunk)
                yield from self.one_by_one(self.splitter.add(chunk[start:end]))
            start = end

    def one_by_one(self, lines: Iterable[jsonl.Line]) -> Iterator[Plain | jsonl.Line]:
        for line in lines:
            row = self._plain(line.content) if line.whole and not line.blanks_before else None
            yield line if row is None else Plain(line.number, [line.content], [row])

    def _block(self, lines: list[bytes]) -> Iterator[Plain | jsonl.Line]:
        """The same for lines that are whole."""
        began = 0
        rows: list[_Row] = []
        for index, line in enumerate(lines):
            row = self._plain(line) if rows or not self.splitter.n_blanks else None
            if row is not None:
                rows.append(row)
                continue
            if rows:
                yield Plain(self.splitter.pass_over(len(rows)), lines[began:index], rows)
                rows = []
            yield from self.splitter.add(line + b"\n")
            began = index + 1
        if rows:
            yield Plain(self.splitter.pass_over(len(rows)), lines[began:], rows)

    def _plain(self, line: bytes) -> _Row | None:
        """The row of a line; None if it is to be read with care."""
        try:
            row = _ROW.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        tools = None
        n_quotes = 2
        if isinstance(row.tools, Raw):
            tools = _known_tools(row.tools) if self._takes_tools else None
            if tools is None:
                return None
            n_quotes += 2 + tools.n_quotes
        if row.parallel_tool_calls is not UNSET:
            n_quotes += 2
        of_messages = _quotes_around(row.messages, tools)
        if not of_messages:
            return None
        others = line.count(b'"') - n_quotes - of_messages
        if not others:
            return row
        # A quote inside a string that is spelled otherwise would make room for a key that stands twice.
        return row if others == _quotes_inside(row.messages) and b"\\u0022" not in line else None


def _quotes_around(messages: Sequence[_Turn], tools: _Tools | None) -> int:
    """How many quotes begin and end the keys and strings of these messages; 0 if they are not plain.

    8 are those of {"role": "user", "content": "..."}, 18 those of a call.
    """
    n_quotes = 0
    learned = False
    last: type | None = None
    waiting: set[str] = set()
    for turn in messages:
        kind = type(turn)
        if kind is _User:
            if waiting:
                return 0
            n_quotes += 8
        elif kind is _Assistant:
            assert isinstance(turn, _Assistant)
            if waiting or last is _Assistant:
                return 0
            content = turn.content
            if turn.tool_calls is UNSET:
                if not content or content.isspace():
                    return 0
                n_quotes += 8
            else:
                if not _are_sound(turn.tool_calls, tools, waiting):
                    return 0
                n_quotes += 6 + 18 * len(waiting) + (0 if content is UNSET else 2 if content is None else 4)
            if turn.weight is UNSET:
                learned = True
            else:
                n_quotes += 2
                learned = learned or turn.weight == 1
        elif kind is _Result:
            assert isinstance(turn, _Result)
            if turn.tool_call_id not in waiting:
                return 0
            waiting.remove(turn.tool_call_id)
            n_quotes += 12
        elif waiting or last not in _BEGINNINGS:
            return 0
        else:
            n_quotes += 8
        last = kind
    return n_quotes if learned and last is _Assistant else 0


_BEGINNINGS = (None, _System, _Developer)


def _quotes_inside(messages: Sequence[_Turn]) -> int:
    """How many quotes stand inside the strings of these messages."""
    n_quotes = 0
    for turn in messages:
        if turn.content and '"' in turn.content:
            n_quotes += turn.content.count('"')
        if isinstance(turn, _Result):
            n_quotes += turn.tool_call_id.count('"')
        elif isinstance(turn, _Assistant) and not isinstance(turn.tool_calls, UnsetType):
            n_quotes += sum(call.id.count('"') + call.function.arguments.count('"') for call in turn.tool_calls)
    return n_quotes


def _are_sound(calls: Sequence[_Call] | UnsetType, tools: _Tools | None, waiting: set[str]) -> bool:
    """Whether nothing is wrong with these calls, whose ids are added to `waiting`."""
    if tools is None or isinstance(calls, UnsetType):
        return False
    for call in calls:
        if call.id in waiting or not _is_sound(call.function, tools):
            return False
        waiting.add(call.id)
    return True


def _is_sound(called: _Called, tools: _Tools) -> bool:
    """Whether a call is of a known tool and its arguments satisfy the schema."""
    if called.name not in tools.schemas:
        return False
    arguments = json_reader.read(called.arguments)
    if arguments.faults or not isinstance(arguments.value, dict):
        return False
    schema = tools.schemas[called.name]
    return schema is None or schema.validator.is_valid(arguments.value)


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
    return _Tools(tuple(tools), schemas, content.count(b'"'))


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
