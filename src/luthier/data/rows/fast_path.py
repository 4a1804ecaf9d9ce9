"""The fast path: valid rows are recognised at the speed of a decoder in C; all others are left to the full parser.

msgspec decodes each line into the plainest form of a valid row. It ignores unknown keys, and keys that occur twice;
both show when the quotes of the line are counted. A row that is accepted has no problem at all, or the warnings that
the full parser gave an earlier row of its shape (row_shapes.py), and the full parser would give the same Example: tests
hold both to it. checks/validate.py is the caller.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, Raw

from luthier.core.states import Ability
from luthier.data.jsonl import json_reader, line_reader
from luthier.data.rows import fast_path_structs
from luthier.data.rows.fast_path_structs import (
    Assistant,
    Call,
    CalledFunction,
    Developer,
    PlainTurn,
    Result,
    System,
    User,
)
from luthier.data.rows.row_shapes import ShapeCache, Warnings
from luthier.data.rows.supervised import Example

_BLOCK_BYTES = 1 << 16
"""So many bytes of lines are decoded at once, which bounds the memory."""


@dataclass(slots=True)
class PlainRows:
    """Rows without an error that follow one another, each on a line of its own from line `first` on.

    `lines` are their bytes without LF, `rows` what msgspec made of them. `warned` has the index of each row with
    warnings among them, and the warnings, whose own line numbers may be another row's.
    """

    first: int
    lines: list[bytes]
    rows: list[fast_path_structs.PlainRow]
    warned: list[tuple[int, Warnings]]

    def __len__(self) -> int:
        """How many rows, and lines, these are."""
        return len(self.rows)

    def examples(self) -> Iterator[tuple[int, bytes, Example]]:
        """Line number, line without its end, and example of each row; examples are made only when asked for."""
        for index, row in enumerate(self.rows):
            yield self.first + index, self.lines[index].removesuffix(b"\r"), fast_path_structs.to_example(row)


def scan(chunks: Iterable[bytes], abilities: Set[Ability] | None) -> Iterator[PlainRows | line_reader.Line]:
    """Yields the lines of a file in their order: plain rows together, every other line that is not blank by itself.

    `abilities` are those of the base model, None where there is none yet. Never raises for the lines' content.
    """
    scanner = _Scanner(abilities)
    for chunk in chunks:
        yield from scanner.add(chunk)
    yield from scanner.one_by_one(scanner.splitter.finish())


class _Scanner:
    """Takes chunks as they come; the splitter counts lines, and holds the one that is not yet whole."""

    def __init__(self, abilities: Set[Ability] | None) -> None:
        self.splitter = line_reader.LineSplitter()
        self._takes_tools = abilities is None or Ability.TOOLS in abilities
        self._shapes = ShapeCache(abilities)

    def add(self, chunk: bytes) -> Iterator[PlainRows | line_reader.Line]:
        """Yields what the chunk completes; whole lines are split and decoded in blocks of _BLOCK_BYTES."""
        start = 0
        while start < len(chunk):
            end = chunk.rfind(b"\n", start, start + _BLOCK_BYTES) + 1
            if end and not self.splitter.is_inside_line:
                yield from self._block(chunk[start : end - 1].split(b"\n"))
            else:
                # A line that began in an earlier chunk, or is longer than a block.
                end = chunk.find(b"\n", start) + 1 or len(chunk)
                yield from self.one_by_one(self.splitter.add(chunk[start:end]))
            start = end

    def one_by_one(self, lines: Iterable[line_reader.Line]) -> Iterator[PlainRows | line_reader.Line]:
        """Yields each line as a plain row, or as it is where it is none, was cut, or follows blank lines."""
        for line in lines:
            parsed = self._plain(line.content) if line.complete and not line.blanks_before else None
            if parsed is None:
                yield line
            else:
                row, warnings = parsed
                yield PlainRows(line.number, [line.content], [row], [(0, warnings)] if warnings else [])

    def _block(self, lines: list[bytes]) -> Iterator[PlainRows | line_reader.Line]:
        """Yields whole lines, given without line end: plain neighbours together, others as the splitter has them."""
        block_start = 0
        rows: list[fast_path_structs.PlainRow] = []
        warned: list[tuple[int, Warnings]] = []
        for index, line in enumerate(lines):
            row_and_warnings = self._plain(line) if rows or not self.splitter.n_blanks else None
            if row_and_warnings is not None:
                if row_and_warnings[1]:
                    warned.append((len(rows), row_and_warnings[1]))
                rows.append(row_and_warnings[0])
                continue
            if rows:
                yield PlainRows(self.splitter.skip_lines(len(rows)), lines[block_start:index], rows, warned)
                rows, warned = [], []
            yield from self.splitter.add(line + b"\n")
            block_start = index + 1
        if rows:
            yield PlainRows(self.splitter.skip_lines(len(rows)), lines[block_start:], rows, warned)

    def _plain(self, line: bytes) -> tuple[fast_path_structs.PlainRow, Warnings] | None:
        """The row of a line and its warnings, () for none; None if the line must be fully parsed."""
        try:
            row = fast_path_structs.PLAIN_ROW.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        tools = None
        n_quotes = 2
        if isinstance(row.tools, Raw):
            tools = fast_path_structs.cached_tools(row.tools) if self._takes_tools else None
            if tools is None:
                return None
            n_quotes += 2 + tools.n_quotes
        if row.parallel_tool_calls is not UNSET:
            n_quotes += 2
        of_messages, in_order = _quotes_around(row.messages, tools)
        if not of_messages:
            return None
        others = line.count(b'"') - n_quotes - of_messages
        if others:
            # A quote inside a string that is spelled otherwise would hide a duplicate key.
            if b"\\u0022" in line:
                return None
            others -= _quotes_inside(row.messages)
        if not others and in_order:
            return row, ()
        warnings = self._shapes.warnings(
            line, lambda: fast_path_structs.to_example(row), others, _shape_marks(row.messages)
        )
        return None if warnings is None else (row, warnings)


def _quotes_around(messages: Sequence[PlainTurn], tools: fast_path_structs.PlainTools | None) -> tuple[int, bool]:
    """How many quotes begin and end the keys and strings of these messages, 0 if they must be fully parsed.

    8 are those of {"role": "user", "content": "..."}, 18 those of a call. And whether the messages are in good order,
    with no empty answer, so that they have no problem but for keys that are not counted here.
    """
    n_quotes = 0
    learned = False
    in_order = True
    last: type | None = None
    pending_call_ids: set[str] = set()
    for turn in messages:
        kind = type(turn)
        if kind is Result:
            assert isinstance(turn, Result)
            if turn.tool_call_id not in pending_call_ids:
                return 0, False
            pending_call_ids.remove(turn.tool_call_id)
            n_quotes += 12
        elif pending_call_ids:
            return 0, False
        elif kind is Assistant:
            assert isinstance(turn, Assistant)
            n_answer = 0 if last is Assistant else _quotes_of_answer(turn, tools, pending_call_ids)
            if not n_answer:
                return 0, False
            n_quotes += n_answer
            learned = learned or (turn.weight != 0)
            in_order = in_order and not _is_empty(turn)
        else:
            in_order = in_order and (kind is User or last in _BEGINNINGS)
            n_quotes += 8
        if turn.name is not UNSET:
            n_quotes += 2 if turn.name is None else 4
        last = kind
    return (n_quotes, in_order and last is Assistant) if learned else (0, False)


def _quotes_of_answer(turn: Assistant, tools: fast_path_structs.PlainTools | None, pending_call_ids: set[str]) -> int:
    """How many quotes begin and end the keys and strings of one answer, but for its name; 0: parse fully.

    Adds the ids of its calls to `pending_call_ids`, which is empty before.
    """
    n_quotes = 0 if turn.weight is UNSET else 2
    if not turn.tool_calls:
        if turn.tool_calls is None:
            n_quotes += 2
        return n_quotes + 8 if isinstance(turn.content, str) else 0
    if not _admit_calls(turn.tool_calls, tools, pending_call_ids):
        return 0
    content = turn.content
    return n_quotes + 6 + 18 * len(pending_call_ids) + (0 if content is UNSET else 2 if content is None else 4)


_BEGINNINGS = (None, System, Developer)


def _is_empty(turn: PlainTurn) -> bool:
    """Whether it is an answer without calls whose text is missing or blank."""
    content = turn.content
    return isinstance(turn, Assistant) and not turn.tool_calls and (not content or content.isspace())


def _shape_marks(messages: Sequence[PlainTurn]) -> list[object]:
    """What warnings about order and empty answers depend on: each message's struct, None for an empty answer."""
    return [None if _is_empty(turn) else type(turn) for turn in messages]


def _quotes_inside(messages: Sequence[PlainTurn]) -> int:
    """How many quotes are inside the strings of these messages, where the line has them as escapes."""
    n_quotes = 0
    for turn in messages:
        if turn.content and '"' in turn.content:
            n_quotes += turn.content.count('"')
        if turn.name:
            n_quotes += turn.name.count('"')
        if isinstance(turn, Result):
            n_quotes += turn.tool_call_id.count('"')
        elif isinstance(turn, Assistant) and turn.tool_calls:
            n_quotes += sum(call.id.count('"') + call.function.arguments.count('"') for call in turn.tool_calls)
    return n_quotes


def _admit_calls(calls: Sequence[Call], tools: fast_path_structs.PlainTools | None, pending_call_ids: set[str]) -> bool:
    """Whether every call is of a known tool and new; adds their ids to `pending_call_ids`. False: parse fully."""
    if tools is None:
        return False
    for call in calls:
        if call.id in pending_call_ids or not _call_matches_schema(call.function, tools):
            return False
        pending_call_ids.add(call.id)
    return True


def _call_matches_schema(called: CalledFunction, tools: fast_path_structs.PlainTools) -> bool:
    """Whether a call is of a known tool and its arguments are an object that satisfies the schema, if there is one."""
    if called.name not in tools.schemas:
        return False
    arguments = json_reader.read(called.arguments)
    if arguments.faults or not isinstance(arguments.value, dict):
        return False
    schema = tools.schemas[called.name]
    return schema is None or schema.validator.is_valid(arguments.value)
