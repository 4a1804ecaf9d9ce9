"""A whole training or validation file -> Report: every problem in it at once, and how many examples it holds.

The service checks uploads and jobs with it, the trainer reads its files with it.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

from luthier.core.quotas import MAX_FILE_BYTES
from luthier.core.states import Ability, Method
from luthier.data.file_types import file_type, whole_file
from luthier.data.file_types.text_encoding import EncodingSurvey
from luthier.data.jsonl import line_reader
from luthier.data.jsonl.line_reader import JsonRow
from luthier.data.problems import problem_groups
from luthier.data.problems.problem import Problem, Severity
from luthier.data.problems.problem_groups import ProblemGroup
from luthier.data.problems.problem_tally import ProblemTally
from luthier.data.rows import fast_path, preference, supervised
from luthier.data.rows.preference import Preference
from luthier.data.rows.supervised import Example, Parsed

_FAILS_ANY_JOB = frozenset(("image_not_supported",))
MIN_TRAINING_EXAMPLES = 10
MIN_VALIDATION_EXAMPLES = 1
_ROWLESS_LINES = 100
"""After so many lines without one JSON object the file is taken to be of another type, and reading stops."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. `problems` lists the first MAX_LISTED of either severity; `n_errors` and `n_warnings` count all.

    `n_examples` counts the rows that could be parsed, `n_rows` the lines that are not blank, `bad_rows` those of them
    with an error, `warned_rows` those with only warnings. `groups` has all problems by kind, errors first.
    """

    problems: tuple[Problem, ...]
    n_examples: int
    n_errors: int
    n_warnings: int
    n_rows: int = 0
    bad_rows: int = 0
    warned_rows: int = 0
    groups: tuple[ProblemGroup, ...] = ()

    @property
    def good_rows(self) -> int:
        return self.n_rows - self.bad_rows - self.warned_rows

    @property
    def valid(self) -> bool:
        return self.n_errors == 0

    @property
    def trainable(self) -> bool:
        """Whether a job on the file would get to train: some warnings, before a base model is known, rule it out."""
        return self.valid and not any(group.first.code in _FAILS_ANY_JOB for group in self.groups)


class RowObserver(Protocol):
    """Observes the valid rows of a file one by one, and reports what only shows over all of them."""

    def add(self, line: int, raw: bytes, example: Example | Preference) -> Iterable[Problem]:
        """Takes a row, and its line as it is in the file. Its problems may be of earlier rows."""
        ...

    def finish(self) -> Iterable[Problem]:
        """Called once after the last row; gives what only shows over all rows."""
        ...


def check_file(
    chunks: Iterable[bytes],
    abilities: Set[Ability] | None,
    min_examples: int = MIN_TRAINING_EXAMPLES,
    method: Method = Method.SUPERVISED,
    observers: Sequence[RowObserver] = (),
    max_bytes: int = MAX_FILE_BYTES,
) -> Report:
    """Reads the rows of the file as the method's; reports their problems, and what the observers say of the valid ones.

    `abilities` are those of the base model, None where there is none yet. Never raises for the content. A file that is
    plainly no JSONL is given up early, and the observers' `finish` is then not called where its kind is known.
    """
    tally = ProblemTally()
    source = whole_file.ChunkBuffer(chunks)
    blanks = whole_file.BlankLines()
    survey = EncodingSurvey()
    n_objects = n_examples = 0
    first: JsonRow | Problem | None = None
    for line in _lines(source.chunks(), abilities, method):
        if isinstance(line, fast_path.PlainRows):
            tally.n_rows += len(line)
            n_objects += len(line)
            n_examples += len(line)
            source.release()
            survey.has_utf8 = survey.has_utf8 or not all(map(bytes.isascii, line.lines))
            for index, warnings in line.warned:
                tally.add_warnings(line.first + index, warnings)
            if observers:
                tally.add_all(_observed(line, observers))
            continue
        tally.n_rows += 1
        blanks.add(line)
        row = line_reader.parse_line(line)
        first = first or row
        survey.add_line(line, not isinstance(row, Problem) or row.code != "invalid_utf8")
        if isinstance(row, Problem):
            tally.add(row)
            if tally.n_rows == 1 and file_type.is_not_jsonl(source.start, row.code):
                break
        else:
            n_objects += 1
            parsed = parse_row(row, abilities, method)
            tally.add_all(parsed.problems)
            if parsed.example is not None:
                n_examples += 1
                for observer in observers:
                    tally.add_all(observer.add(row.line, line.content, parsed.example))
        if tally.n_rows >= _ROWLESS_LINES and n_objects == 0:
            break
    is_odd = n_objects == 0 or (tally.n_rows == 1 and n_examples == 0)
    if is_odd and first is not None and (other := whole_file.not_jsonl(source, first, tally.n_rows)) is not None:
        return Report((other,), 0, 1, 0, tally.n_rows, tally.n_rows, groups=problem_groups.group_problems([other]))
    tally.add_all(source.problems(max_bytes))
    tally.add_unrowed(blanks.problems())
    tally.add_all(_count_problems(tally.n_rows, n_objects, min_examples, survey))
    for observer in observers:
        tally.add_all(observer.finish())
    return _report(tally, n_examples, survey)


def with_problem(report: Report, problem: Problem) -> Report:
    """A copy of the report with an error of the file as a whole before the others."""
    groups = (*problem_groups.group_problems([problem]), *report.groups)
    return replace(report, problems=(problem, *report.problems), n_errors=report.n_errors + 1, groups=groups)


def _report(tally: ProblemTally, n_examples: int, survey: EncodingSurvey) -> Report:
    """The report of a file; problems of lines that are not UTF-8 say which encoding all these lines may be in."""
    with_fix = whole_file.with_encoding_fix(survey)
    return Report(
        tuple(map(with_fix, tally.listed())),
        n_examples,
        tally.n_errors,
        tally.n_warnings,
        tally.n_rows,
        tally.bad_rows,
        tally.warned_rows,
        tuple(replace(group, first=with_fix(group.first)) for group in tally.groups()),
    )


def _lines(
    chunks: Iterable[bytes], abilities: Set[Ability] | None, method: Method
) -> Iterator[fast_path.PlainRows | line_reader.Line]:
    """The lines of the file; runs of lines that the fast path accepts come as one."""
    return fast_path.scan(chunks, abilities) if method is Method.SUPERVISED else line_reader.read_lines(chunks)


def _observed(rows: fast_path.PlainRows, observers: Sequence[RowObserver]) -> Iterator[Problem]:
    """Hands each row to every observer; yields their problems."""
    for number, content, example in rows.examples():
        for observer in observers:
            yield from observer.add(number, content, example)


def parse_row(row: JsonRow, abilities: Set[Ability] | None, method: Method) -> Parsed[Example] | Parsed[Preference]:
    """One row of a file, read as the method's rows are: Example for supervised, Preference for dpo."""
    match method:
        case Method.SUPERVISED:
            return supervised.parse_supervised(row, abilities)
        case Method.DPO:
            return preference.parse_preference(row, abilities)
        case _:
            assert_never(method)


def _count_problems(n_rows: int, n_objects: int, min_examples: int, survey: EncodingSurvey) -> list[Problem]:
    """The error of a file with too few rows, or without one object among those that were read; [] for others."""
    if n_rows >= _ROWLESS_LINES and n_objects == 0:
        return [whole_file.stopped_early(n_rows, survey)]
    return [_too_few(n_rows, min_examples)] if n_rows < min_examples else []


def _too_few(n_rows: int, min_examples: int) -> Problem:
    """The error of a file with fewer rows than `min_examples`."""
    return Problem(
        None,
        "",
        "too_few_examples",
        Severity.ERROR,
        f"the file has {n_rows} {'row' if n_rows == 1 else 'rows'}; at least {min_examples} must be there.",
        "Add examples.",
    )
