"""Counts the problems of a file and the rows that have any; lists the first of them.

`data/checks/validate.py` fills one while it reads a file.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from luthier.data.problems.problem import Problem, Severity
from luthier.data.problems.problem_groups import GroupBuilder, ProblemGroup, ProblemGrouping

MAX_LISTED = 1000
"""So many errors are listed, and so many warnings: those of one kind never crowd out the others."""
LISTED_OF_EACH = 10
"""So many of each code are listed even behind MAX_LISTED others."""


_MAX_SETS = 4096


@dataclass(frozen=True, slots=True)
class _CountedWarnings:
    """The warnings that several rows share as one object, with how often each kind and key occurs among them.

    Holding `warnings` keeps its id from being another's.
    """

    warnings: Sequence[Problem]
    gathered: tuple[tuple[GroupBuilder, str | None, int], ...]


class ProblemTally:
    """The problems of one file, however many; `n_rows` counts its lines that are not blank, and is set by the caller.

    Beyond MAX_LISTED of a severity, problems are counted and grouped, but not listed.
    """

    def __init__(self) -> None:
        self.n_rows = 0
        self._kept: dict[Severity, list[Problem]] = {severity: [] for severity in Severity}
        self._counts = dict.fromkeys(Severity, 0)
        self._by_code: dict[tuple[Severity, str], int] = {}
        self._lines: dict[Severity, set[int]] = {severity: set() for severity in Severity}
        self._groups = ProblemGrouping()
        self._known: dict[int, _CountedWarnings] = {}

    def add(self, problem: Problem) -> None:
        """Takes a problem of a row, which then counts as a bad or a warned row, or of the file as a whole."""
        self._add(problem, problem.line)
        if problem.line is not None:
            self._lines[problem.severity].add(problem.line)

    def add_all(self, problems: Iterable[Problem]) -> None:
        """Takes problems of rows or of the file, as `add` does."""
        for problem in problems:
            self.add(problem)

    def add_unrowed(self, problems: Iterable[Problem]) -> None:
        """Takes problems of lines that are no rows, such as blank ones: no row counts as bad for them."""
        for problem in problems:
            self._add(problem, problem.line)

    def add_warnings(self, line: int, warnings: Sequence[Problem]) -> None:
        """Takes the warnings of the row on `line`; their own lines may be those of a row like it.

        Once enough of them are listed, warnings that were seen before (the same object) are only counted.
        """
        if not warnings:
            return
        self._lines[Severity.WARNING].add(line)
        counted = self._known.get(id(warnings))
        if counted is None or not all(self._list_is_full(warning) for warning in warnings):
            kinds = Counter((self._add(warning, line), warning.key) for warning in warnings)
            if len(self._known) < _MAX_SETS:
                all_kinds = tuple((kind, key, count) for (kind, key), count in kinds.items())
                self._known[id(warnings)] = _CountedWarnings(warnings, all_kinds)
            return
        self._counts[Severity.WARNING] += len(warnings)
        for gathered, key, count in counted.gathered:
            gathered.add(line, key, count)

    def _list_is_full(self, problem: Problem) -> bool:
        """Whether the list has enough: no further problem of this code would be added to it."""
        severity = problem.severity
        of_code = self._by_code.get((severity, problem.code), 0)
        return of_code >= LISTED_OF_EACH and len(self._kept[severity]) >= MAX_LISTED

    def _add(self, problem: Problem, line: int | None) -> GroupBuilder:
        """Counts a problem on `line`, lists it if there is room, and groups it; returns the builder of its group."""
        severity = problem.severity
        self._counts[severity] += 1
        code = severity, problem.code
        of_code = self._by_code[code] = self._by_code.get(code, 0) + 1
        if of_code <= LISTED_OF_EACH or len(self._kept[severity]) < MAX_LISTED:
            self._kept[severity].append(problem.at(line))
        return self._groups.add(problem, line)

    @property
    def n_errors(self) -> int:
        return self._counts[Severity.ERROR]

    @property
    def n_warnings(self) -> int:
        return self._counts[Severity.WARNING]

    @property
    def bad_rows(self) -> int:
        """How many rows have an error."""
        return len(self._lines[Severity.ERROR])

    @property
    def warned_rows(self) -> int:
        """How many rows have warnings only."""
        return len(self._lines[Severity.WARNING] - self._lines[Severity.ERROR])

    def listed(self) -> tuple[Problem, ...]:
        """The listed problems by line; those of the file as a whole come first, for they are the ones to read."""
        return tuple(
            sorted((one for problems in self._kept.values() for one in problems), key=lambda one: one.line or 0)
        )

    def groups(self) -> tuple[ProblemGroup, ...]:
        """All problems, the ones that are not listed included, by kind."""
        return self._groups.groups()
