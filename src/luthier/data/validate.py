"""A whole training or validation file -> Report: every problem in it at once, and how many examples it holds."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, assert_never

from luthier.catalog import Ability
from luthier.core.states import Method
from luthier.data import file_kinds, jsonl, messages, plain_rows, preferences, whole_file
from luthier.data.jsonl import Row
from luthier.data.messages import Example, Parsed
from luthier.data.preferences import Preference
from luthier.data.problem import Problem, Severity

T = TypeVar("T")
Kind = tuple[Severity, str]

MIN_TRAINING_EXAMPLES = 10
MIN_VALIDATION_EXAMPLES = 1
MAX_LISTED = 1000
"""So many errors are listed, and so many warnings: those of one kind never crowd out the others."""
LISTED_OF_EACH = 10
"""So many of each code are listed even behind MAX_LISTED others."""
_ROWLESS_LINES = 100
"""After so many lines without one JSON object the file is taken to be of another kind and not read on."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. `problems` lists the first MAX_LISTED of either severity; `n_errors` and `n_warnings` count all.

    `n_rows` are the lines that are not blank, `bad_rows` those of them with an error, `warned_rows` those with warnings
    alone. `by_kind` counts the problems of each severity and code.
    """

    problems: tuple[Problem, ...]
    n_examples: int
    n_errors: int
    n_warnings: int
    n_rows: int = 0
    bad_rows: int = 0
    warned_rows: int = 0
    by_kind: Mapping[Kind, int] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        return self.n_errors == 0


class InvalidFile(Exception):
    """A file that was to be read as examples has errors; `report` names them."""

    def __init__(self, report: Report) -> None:
        super().__init__(f"{report.n_errors} errors")
        self.report = report


class Watcher(Protocol):
    """Is shown the good rows of a file one by one, and says what only shows when they are seen together."""

    def add(self, line: int, raw: bytes, example: Example | Preference) -> Iterable[Problem]:
        """Takes a row, and its line as it stands in the file. Its problems may be of earlier rows."""
        ...

    def finish(self) -> Iterable[Problem]: ...


def check_file(
    chunks: Iterable[bytes],
    abilities: Set[Ability] | None,
    min_examples: int = MIN_TRAINING_EXAMPLES,
    method: Method = Method.SUPERVISED,
    watchers: Sequence[Watcher] = (),
    max_bytes: int = whole_file.MAX_FILE_BYTES,
) -> Report:
    """Reads the file to its end, its rows as the method's are; reports their problems, and what the watchers say.

    `abilities` are those of the base model, None where there is none yet.
    """
    tally = _Tally()
    source = whole_file.Source(chunks)
    blanks = whole_file.BlankLines()
    n_objects = n_examples = 0
    first: Problem | None = None
    for line in _lines(source.chunks(), abilities, method):
        if isinstance(line, plain_rows.Plain):
            tally.n_rows += len(line)
            n_objects += len(line)
            n_examples += len(line)
            if watchers:
                tally.add_all(_watched(line, watchers))
            continue
        tally.n_rows += 1
        blanks.add(line)
        row = jsonl.parse(line)
        if isinstance(row, Problem):
            first = first or row
            tally.add(row)
            if tally.n_rows == 1 and file_kinds.is_other(source.start, row.code):
                break
        else:
            n_objects += 1
            parsed = parse(row, abilities, method)
            tally.add_all(parsed.problems)
            if parsed.example is not None:
                n_examples += 1
                for watcher in watchers:
                    tally.add_all(watcher.add(row.line, line.content, parsed.example))
        if tally.n_rows >= _ROWLESS_LINES and n_objects == 0:
            break
    if first is not None and n_objects == 0:
        kind = file_kinds.of(source.start, first.code, tally.n_rows)
        if kind is not None:
            return Report((whole_file.not_jsonl(kind),), 0, 1, 0, tally.n_rows, tally.n_rows)
    tally.add_all(source.problems(max_bytes))
    tally.add_all(blanks.problems())
    if tally.n_rows >= _ROWLESS_LINES and n_objects == 0:
        tally.add(whole_file.given_up(tally.n_rows))
    elif tally.n_rows < min_examples:
        tally.add(_too_few(tally.n_rows, min_examples))
    for watcher in watchers:
        tally.add_all(watcher.finish())
    return tally.report(n_examples)


def examples(chunks: Iterable[bytes], abilities: Set[Ability] | None) -> Iterator[tuple[int, Example]]:
    """Yields line number and example of each row, for a file that check_file found valid; InvalidFile at an error."""
    return _each(chunks, abilities, messages.parse)


def pairs(chunks: Iterable[bytes], abilities: Set[Ability] | None) -> Iterator[tuple[int, Preference]]:
    """The same for a file of preference pairs."""
    return _each(chunks, abilities, preferences.parse)


def _lines(
    chunks: Iterable[bytes], abilities: Set[Ability] | None, method: Method
) -> Iterator[plain_rows.Plain | jsonl.Line]:
    """The lines of the file, those together that are plainly right."""
    return plain_rows.sift(chunks, abilities) if method is Method.SUPERVISED else jsonl.lines(chunks)


def _watched(rows: plain_rows.Plain, watchers: Sequence[Watcher]) -> Iterator[Problem]:
    for number, content, example in rows.examples():
        for watcher in watchers:
            yield from watcher.add(number, content, example)


def parse(row: Row, abilities: Set[Ability] | None, method: Method) -> Parsed[Example] | Parsed[Preference]:
    """One row of a file, read as the method's rows are."""
    match method:
        case Method.SUPERVISED:
            return messages.parse(row, abilities)
        case Method.DPO:
            return preferences.parse(row, abilities)
        case _:
            assert_never(method)


def _each(
    chunks: Iterable[bytes], abilities: Set[Ability] | None, parse: Callable[[Row, Set[Ability] | None], Parsed[T]]
) -> Iterator[tuple[int, T]]:
    for row in jsonl.rows(chunks):
        problems = (row,) if isinstance(row, Problem) else ()
        parsed = None if isinstance(row, Problem) else parse(row, abilities)
        if parsed is None or parsed.example is None:
            found = problems if parsed is None else parsed.problems
            raise InvalidFile(Report(found, 0, len(found), 0))
        assert not isinstance(row, Problem)
        yield row.line, parsed.example


class _Tally:
    """Counts problems, and the rows that have any; keeps the first of either severity."""

    def __init__(self) -> None:
        self.n_rows = 0
        self._kept: dict[Severity, list[Problem]] = {severity: [] for severity in Severity}
        self._counts = dict.fromkeys(Severity, 0)
        self._by_kind: dict[Kind, int] = {}
        self._lines: dict[Severity, set[int]] = {severity: set() for severity in Severity}

    def add(self, problem: Problem) -> None:
        self._counts[problem.severity] += 1
        kind = problem.severity, problem.code
        of_kind = self._by_kind[kind] = self._by_kind.get(kind, 0) + 1
        if problem.line is not None:
            self._lines[problem.severity].add(problem.line)
        if len(self._kept[problem.severity]) < MAX_LISTED or of_kind <= LISTED_OF_EACH:
            self._kept[problem.severity].append(problem)

    def add_all(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.add(problem)

    def report(self, n_examples: int) -> Report:
        # Findings about the file as a whole come first: they are the ones to read.
        ordered = sorted((problem for kept in self._kept.values() for problem in kept), key=lambda one: one.line or 0)
        bad, warned = self._lines[Severity.ERROR], self._lines[Severity.WARNING]
        return Report(
            tuple(ordered),
            n_examples,
            self._counts[Severity.ERROR],
            self._counts[Severity.WARNING],
            self.n_rows,
            len(bad),
            len(warned - bad),
            self._by_kind,
        )


def _too_few(n_rows: int, min_examples: int) -> Problem:
    return Problem(
        None,
        "",
        "too_few_examples",
        Severity.ERROR,
        f"the file has {n_rows} {'row' if n_rows == 1 else 'rows'}; at least {min_examples} must be there.",
        "Add examples.",
    )
