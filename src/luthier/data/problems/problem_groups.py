"""Groups problems of one kind, with the numbers of their lines: what people read of a long report.

A kind is a severity, a code and a sentence, numbers in it left out: `at column 3` and `at column 5` are one kind. Used
for reports on files (`data/checks/validate.py`) and for text of them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from luthier.data.problems.problem import Problem, Severity

SHOWN_RANGES = 12
MAX_SENTENCES = 8
"""So many sentences of one code have groups of their own; all further ones are one group."""
MAX_KEYS = 20
_MAX_SPANS = 1000
_NUMBER = re.compile(r"\d[\d,]*")

LineRange = tuple[int, int]
"""First and last line of a run."""


@dataclass(frozen=True, slots=True)
class ProblemGroup:
    """All problems of one kind in a file; `first` represents them.

    `spans` are its lines in order, empty for the whole file. `n_lines` counts the lines, those that `spans` leaves out
    included, `count` the problems. `keys` has the rows' own keys that they are about and how often each occurs, the
    first MAX_KEYS; `more_keys` counts the problems of other keys. `n_sentences` is over 1 if `first` represents as many
    different sentences.
    """

    first: Problem
    spans: tuple[LineRange, ...]
    n_lines: int
    count: int
    keys: Mapping[str, int] = field(default_factory=dict)
    more_keys: int = 0
    n_sentences: int = 1

    @property
    def where(self) -> str:
        """The lines as text: `lines 3, 7-9 and 12 more`, or `the file`."""
        if not self.n_lines:
            return "the file"
        return ("line " if self.n_lines == 1 else "lines ") + self._ranges()

    def sentence(self) -> str:
        """The group as one line of text without keys: lines, path and words of the first, and how many there are."""
        if self.count == 1:
            return self.first.sentence()
        several = f"{self.n_sentences} different ones, the first: " if self.n_sentences > 1 else ""
        where = f"{self.where[:1].upper()}{self.where[1:]} ({self.count:,} in all): {several}"
        path = f"{self.first.path}: " if self.first.path else ""
        return f"{where}{path}{self.first.message} {self.first.fix}".rstrip()

    def _ranges(self) -> str:
        """The first SHOWN_RANGES line ranges as text, and how many lines there are beyond them."""
        shown = _format_ranges(self.spans[:SHOWN_RANGES])
        left = self.n_lines - sum(last - first + 1 for first, last in self.spans[:SHOWN_RANGES])
        return and_more(shown, left)


class ProblemGrouping:
    """Gathers any number of problems of a file in little memory: of each kind the first, a count and line ranges."""

    def __init__(self) -> None:
        self._found: dict[tuple[Severity, str, str], GroupBuilder] = {}
        self._n_sentences: dict[tuple[Severity, str], int] = {}

    def add(self, problem: Problem, line: int | None) -> "GroupBuilder":
        """Counts a problem on `line`, None for the file; its own line is ignored, so that one may stand for many.

        Returns the builder of its kind, to which more of them may be added directly.
        """
        key = problem.severity, problem.code, _pattern(problem.message, problem.fix)
        gathered = self._found.get(key) or self._new(key, problem, line)
        gathered.add(line, problem.key)
        return gathered

    def groups(self) -> tuple[ProblemGroup, ...]:
        """The groups so far: errors first, and then in the order in which the kinds were found."""
        all_groups = [gathered.group() for gathered in dict.fromkeys(self._found.values())]
        return tuple(sorted(all_groups, key=lambda group: group.first.severity is Severity.WARNING))

    def _new(self, key: tuple[Severity, str, str], problem: Problem, line: int | None) -> "GroupBuilder":
        """The builder for a new kind: one of its own, or beyond MAX_SENTENCES the one that all of its code share."""
        kind = key[:2]
        n_sentences = self._n_sentences[kind] = self._n_sentences.get(kind, 0) + 1
        if n_sentences <= MAX_SENTENCES:
            gathered = self._found[key] = GroupBuilder(problem.at(line))
            return gathered
        further = *kind, ""
        overflow = self._found.get(further)
        if overflow is None:
            overflow = self._found[further] = GroupBuilder(problem.at(line))
            overflow.sentences = set()
        assert overflow.sentences is not None
        if len(overflow.sentences) < _MAX_SPANS:
            overflow.sentences.add(key[2])
        return overflow


def group_problems(problems: Iterable[Problem]) -> tuple[ProblemGroup, ...]:
    """The groups of the given problems, each on its own line."""
    gathered = ProblemGrouping()
    for problem in problems:
        gathered.add(problem, problem.line)
    return gathered.groups()


def format_lines(numbers: Sequence[int], most: int = SHOWN_RANGES) -> str:
    """Line numbers in rising order as text: `1-3, 5 and 2 more`, at most `most` ranges."""
    spans = merge_ranges((number, number) for number in numbers)
    left = sum(last - first + 1 for first, last in spans[most:])
    shown = _format_ranges(spans[:most])
    return and_more(shown, left)


def and_more(listed: str, n_more: int) -> str:
    """A list of words that was cut short, with the count of what is left out, if any: `1, 2, 3 and 12 more`."""
    return f"{listed} and {n_more:,} more" if n_more else listed


def summarize(groups: Sequence[ProblemGroup], most: int, where_all_are: str = "") -> list[str]:
    """A line of text for each of the first `most` groups, and a last one with the number of problems in all others.

    `where_all_are` ends that last line, which is left out if there are no others.
    """
    lines = [f"- {group.sentence()}" for group in groups[:most]]
    n_more = sum(group.count for group in groups[most:])
    return [*lines, f"and {n_more:,} more of other kinds{where_all_are}."] if n_more else lines


def merge_ranges(spans: Iterable[LineRange]) -> list[LineRange]:
    """The ranges, given in rising order of their starts, with those that touch or overlap as one."""
    merged: list[LineRange] = []
    for first, last in spans:
        if merged and merged[-1][1] >= first - 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return merged


def _format_ranges(spans: Iterable[LineRange]) -> str:
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


@lru_cache(4096)
def _pattern(message: str, fix: str) -> str:
    """A problem's words with each number as #, the same for all problems of a kind."""
    return _NUMBER.sub("#", f"{message} {fix}")


class GroupBuilder:
    """The problems of one kind so far. Lines come in rising order but for a few; at most _MAX_SPANS ranges are kept."""

    def __init__(self, first: Problem) -> None:
        self._first = first
        self._spans: list[LineRange] = []
        self._begin = self._end = -1
        self._unkept = 0
        self._count = 0
        self._keys: dict[str, int] = {}
        self._more_keys = 0
        self.sentences: set[str] | None = None

    def add(self, line: int | None, key: str | None, count: int = 1) -> None:
        """Counts `count` problems of a line (None: of the file) about one key of the row, or about none."""
        self._count += count
        if key is not None:
            key_count = self._keys.get(key)
            if key_count is not None or len(self._keys) < MAX_KEYS:
                self._keys[key] = (key_count or 0) + count
            else:
                self._more_keys += count
        if line == self._end or line is None:
            return
        if line == self._end + 1 and self._begin >= 0:
            self._end = line
            return
        if line < self._begin and any(first <= line <= last for first, last in self._spans):
            return
        self._close()
        self._begin = self._end = line

    def group(self) -> ProblemGroup:
        """The problems so far as a ProblemGroup; more may be added afterwards."""
        self._close()
        spans = merge_ranges(sorted(self._spans))
        n_lines = sum(last - first + 1 for first, last in spans) + self._unkept
        n_sentences = 1 if self.sentences is None else len(self.sentences)
        return ProblemGroup(
            self._first, tuple(spans), n_lines, self._count, dict(self._keys), self._more_keys, n_sentences
        )

    def _close(self) -> None:
        """Ends the range of lines at hand: keeps it, or only counts its lines once there are too many."""
        if self._begin < 0:
            return
        if len(self._spans) < _MAX_SPANS:
            self._spans.append((self._begin, self._end))
        else:
            self._unkept += self._end - self._begin + 1
        self._begin = self._end = -1
