"""What a file amounts to, in numbers, and rows whose length is out of all proportion to the others."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.data.problem import Problem, Severity

MAX_ROWS = 8_000_000
MIN_ROWS = 10
UNEVEN_FACTOR = 20
UNEVEN_SHARE = 0.2
UNEVEN_LENGTH = 4000
"""A row stands out that is twenty times as long as the middle one, has a fifth of all text, and 4,000 characters."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Lengths of the rows of a file: all together, the middle one, the 95th of a hundred, and the longest."""

    total: int
    median: int
    p95: int
    longest: int
    longest_line: int | None


@dataclass(frozen=True, slots=True)
class Statistics:
    """`characters` are those of all messages of a row, `answer_characters` those of the last learned answer.

    `scripts` counts rows by the script of their answers. Tokens are counted elsewhere: they depend on the model.
    """

    messages: int
    characters: Spread
    answer_characters: Spread
    rows_with_system: int
    rows_with_tools: int
    scripts: dict[str, int]


class Lengths:
    """Lengths of rows, four bytes each."""

    def __init__(self) -> None:
        self._lengths = array("L")
        self._total = 0
        self._longest = 0
        self._longest_line: int | None = None

    def add(self, line: int, length: int) -> None:
        self._total += length
        if length > self._longest or self._longest_line is None:
            self._longest, self._longest_line = length, line
        if len(self._lengths) < MAX_ROWS:
            self._lengths.append(length)

    def spread(self) -> Spread:
        return spread(self._lengths, self._total, self._longest, self._longest_line)


def spread(lengths: Sequence[int], total: int, longest: int, longest_line: int | None) -> Spread:
    """The spread of these lengths; zeros where there are none."""
    ordered = sorted(lengths) or [0]
    return Spread(total, ordered[len(ordered) // 2], ordered[len(ordered) * 95 // 100], longest, longest_line)


def uneven(found: Spread, n_rows: int, unit: str, least: int = UNEVEN_LENGTH) -> Problem | None:
    """The longest row as a problem, where it outweighs the others."""
    if n_rows < MIN_ROWS or found.longest_line is None or found.longest < least:
        return None
    if found.longest < UNEVEN_FACTOR * max(found.median, 1) or found.longest < UNEVEN_SHARE * found.total:
        return None
    share = round(100 * found.longest / found.total)
    return Problem(
        found.longest_line,
        "",
        "uneven_lengths",
        Severity.WARNING,
        f"the row has {found.longest:,} {unit}, {share}% of the whole file; the middle row has {found.median:,}. It "
        "sets the memory that training needs, and weighs like many others.",
        "Split it, or make sure that it belongs here.",
    )
