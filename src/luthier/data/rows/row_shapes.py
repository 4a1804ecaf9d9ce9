"""Warnings cached by row shape: the first row of a shape is fully parsed, and the others get the same warnings.

A shape is a row's keys in their order and the roles of its messages, with all that the warnings about keys, order and
empty answers depend on. So a file with a warning in each row is read at nearly the speed of one without.
"""

import re
from collections.abc import Callable, Sequence, Set

import msgspec
from msgspec import Raw

from luthier.core.states import Ability
from luthier.data.dataset_formats import known_formats
from luthier.data.jsonl import json_reader, line_reader
from luthier.data.problems.problem import Problem
from luthier.data.rows import supervised, unknown_keys
from luthier.data.rows.supervised import Example

RowShape = tuple[object, ...]
Warnings = tuple[Problem, ...]

_MAX_SHAPES = 4096
_MAX_VALUE_BYTES = 4096
"""A larger value under an unknown key is read with the whole row."""
_MAX_BRACKETS = json_reader.MAX_DEPTH - 10
_SHAPE_CODES = frozenset(
    (
        "unknown_key",
        "reasoning_not_learned",
        "misplaced_key",
        "late_system_message",
        "trailing_turn",
        "empty_answer",
        "more_problems",
    )
)
"""Codes of warnings that depend only on a row's shape."""
_ROW_KEYS = frozenset(("messages", "tools", "parallel_tool_calls"))
_PROMPT_KEYS = frozenset(("role", "content", "name"))
_MESSAGE_KEYS = {
    **dict.fromkeys((b'"system"', b'"developer"', b'"user"'), _PROMPT_KEYS),
    b'"assistant"': _PROMPT_KEYS | {"weight", "tool_calls"},
    b'"tool"': _PROMPT_KEYS | {"tool_call_id"},
}
"""Keys that were read of a message, by its role as it is written."""
_ONLY_EMPTY = frozenset(
    ("functions", "function_call", "refusal", "audio", "weight", "tool_calls", "tool_call_id", "name")
)
"""Keys of the wire where they were not read: an example may depend on them unless they are empty."""
_CLEAN = re.compile(rb'"[ !#-\[\]-~]*"|-?[1-9][0-9]{0,14}|0|true|false|null')
"""Values without problems: strings of printable ASCII without escapes, plain numbers, constants."""

_KEYS = msgspec.json.Decoder(dict[str, Raw])
_MESSAGES = msgspec.json.Decoder(list[dict[str, Raw]])


class _NeedsFullParse(Exception):
    """Only a full parse can tell what a value is."""


class ShapeCache:
    """The shapes of one file, read for one base model.

    At most _MAX_SHAPES are kept; each row of a further shape is fully parsed.
    """

    def __init__(self, abilities: Set[Ability] | None) -> None:
        self._abilities = abilities
        self._known: dict[RowShape, Warnings | None] = {}

    def warnings(
        self, line: bytes, example: Callable[[], Example], n_others: int, turns: Sequence[object]
    ) -> Warnings | None:
        """The warnings of a row, with the line numbers of another row; None if it must be fully parsed.

        `example` makes what the row becomes, unless a full parse says otherwise. `n_others` are the quotes of the
        line beside those of keys and strings that were read: all must be those of unknown keys and their values.
        `turns` has for each message what the warnings of its shape depend on.
        """
        try:
            shape = _shape(line, n_others, turns)
        except (_NeedsFullParse, msgspec.DecodeError, UnicodeDecodeError):
            return None
        if shape in self._known:
            return self._known[shape]
        if shape is None or len(self._known) >= _MAX_SHAPES:
            return None
        row_warnings = self._known[shape] = self._parse_fully(line, example)
        return row_warnings

    def _parse_fully(self, line: bytes, example: Callable[[], Example]) -> Warnings | None:
        """The warnings that the full parser gives a row; None if it has any other problem than those of its shape.

        None too if it makes another example of the row than the fast path.
        """
        row = line_reader.parse_line(line_reader.Line(0, line.removesuffix(b"\r")))
        if isinstance(row, Problem):
            return None
        parsed = supervised.parse_supervised(row, self._abilities)
        if parsed.example != example() or any(problem.code not in _SHAPE_CODES for problem in parsed.problems):
            return None
        return parsed.problems


def _shape(line: bytes, n_others: int, turns: Sequence[object]) -> RowShape | None:
    """The shape of a row; None where a quote of the line is that of a duplicate key, or of nothing that was seen.

    Raises _NeedsFullParse where a value may have a problem of its own, and msgspec's errors for what it cannot decode.
    """
    marks: list[object] = []
    members = _KEYS.decode(line)
    if not known_formats.MEANING_KEYS.isdisjoint(members):
        raise _NeedsFullParse
    n_quotes = _mark(members, _ROW_KEYS, marks)
    if n_quotes < n_others:
        for message in _MESSAGES.decode(members["messages"]):
            marks.append(None)
            known_keys = _MESSAGE_KEYS.get(bytes(message["role"]))
            if known_keys is None:
                raise _NeedsFullParse
            n_quotes += _mark(message, known_keys, marks)
    return (*marks, *turns) if n_quotes == n_others else None


def _mark(value: dict[str, Raw], known_keys: frozenset[str], marks: list[object]) -> int:
    """Adds an object's keys to `marks`, and of their values what warnings depend on; counts the unknown ones' quotes.

    Raises _NeedsFullParse where a value may have a problem of its own.
    """
    n_quotes = 0
    for key, raw in value.items():
        marks.append(key)
        if key in known_keys:
            continue
        part = bytes(raw)
        if key in _ONLY_EMPTY:
            if part not in (b"null", b"[]"):
                raise _NeedsFullParse
            marks.append(part)
        n_quotes += 2 + key.count('"')
        if not _CLEAN.fullmatch(part):
            _refuse_faults(part)
        n_quotes += part.count(b'"')
        if key in unknown_keys.FOREIGN_KEYS:
            marks.append(_rule_input(part))
    return n_quotes


def _refuse_faults(part: bytes) -> None:
    """Raises _NeedsFullParse for a value in which a full parse would find a problem."""
    n_brackets = part.count(b"[") + part.count(b"{")
    if len(part) > _MAX_VALUE_BYTES or n_brackets > _MAX_BRACKETS or json_reader.read(part.decode()).faults:
        raise _NeedsFullParse


def _rule_input(part: bytes) -> object:
    """What the rules of unknown_keys.py ask of a value: None for an empty one, a flag itself, () for anything else."""
    value = msgspec.json.decode(part)
    if unknown_keys.is_nothing(value):
        return None
    return value if value in (True, False) else ()
