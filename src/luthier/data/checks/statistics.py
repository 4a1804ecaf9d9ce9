"""Statistics of a file, and outliers: rows whose length is out of proportion to the others."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.data.problems.problem import Problem, Severity

MAX_ROWS = 8_000_000
MIN_ROWS = 10
UNEVEN_FACTOR = 20
UNEVEN_SHARE = 0.2
UNEVEN_LENGTH = 4000
"""An outlier is twenty times as long as the median row, has a fifth of all text, and at least 4,000 characters."""


@dataclass(frozen=True, slots=True)
class LengthDistribution:
    """Lengths of the rows of a file: their total, median, 95th percentile and maximum."""

    total: int
    median: int
    p95: int
    longest: int
    longest_line: int | None


@dataclass(frozen=True, slots=True)
class DatasetStatistics:
    """`characters` are those of all messages of a row, `answer_characters` those of the last learned answer.

    `scripts` counts rows by the script of their answers. Tokens are counted elsewhere: they depend on the model.
    """

    messages: int
    characters: LengthDistribution
    answer_characters: LengthDistribution
    rows_with_system: int
    rows_with_tools: int
    scripts: dict[str, int]


class LengthCounter:
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

    def distribution(self) -> LengthDistribution:
        return length_distribution(self._lengths, self._total, self._longest, self._longest_line)


def length_distribution(
    lengths: Sequence[int], total: int, longest: int, longest_line: int | None
) -> LengthDistribution:
    """The spread of these lengths; zeros where there are none."""
    ordered = sorted(lengths) or [0]
    return LengthDistribution(
        total, ordered[len(ordered) // 2], ordered[len(ordered) * 95 // 100], longest, longest_line
    )


def uneven_lengths(
    lengths: LengthDistribution, n_rows: int, unit: str, min_length: int = UNEVEN_LENGTH
) -> Problem | None:
    """The longest row as a problem, where it outweighs the others."""
    if n_rows < MIN_ROWS or lengths.longest_line is None or lengths.longest < min_length:
        return None
    if lengths.longest < UNEVEN_FACTOR * max(lengths.median, 1) or lengths.longest < UNEVEN_SHARE * lengths.total:
        return None
    share = round(100 * lengths.longest / lengths.total)
    return Problem(
        lengths.longest_line,
        "",
        "uneven_lengths",
        Severity.WARNING,
        f"the row has {lengths.longest:,} {unit}, {share}% of the whole file; the median row has {lengths.median:,}. "
        "It sets the memory that training needs, and counts like many others.",
        "Split it, or make sure that it belongs here.",
    )
