"""Statistics of a file, and outliers: rows whose length is out of proportion to the others.

Lengths are in characters for dataset_checks.py, in tokens for token_counts.py.
"""

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
    """Lengths of the rows of a file: their total, median, 95th percentile and maximum.

    All are 0 and `longest_line`, that of the first longest row, is None where there are no rows.
    """

    total: int
    median: int
    p95: int
    longest: int
    longest_line: int | None


@dataclass(frozen=True, slots=True)
class DatasetStatistics:
    """Counts over the valid rows of a file; tokens are counted elsewhere, for they depend on the model.

    `characters` are those of all messages of a row, `answer_characters` those of the last learned answer; of a
    preference pair both leave out the other output, which `messages`, over all rows, counts too. `scripts` counts rows
    by the script of their answers.
    """

    messages: int
    characters: LengthDistribution
    answer_characters: LengthDistribution
    rows_with_system: int
    rows_with_tools: int
    scripts: dict[str, int]


class LengthCounter:
    """Gathers the lengths of rows, 4 bytes each: no line is longer than 64 MiB."""

    def __init__(self) -> None:
        self._lengths = array("I")
        self._total = 0
        self._longest = 0
        self._longest_line: int | None = None

    def add(self, line: int, length: int) -> None:
        """Adds a row; those after MAX_ROWS count in total and maximum, and not in median and percentile."""
        self._total += length
        if length > self._longest or self._longest_line is None:
            self._longest, self._longest_line = length, line
        if len(self._lengths) < MAX_ROWS:
            self._lengths.append(length)

    def distribution(self) -> LengthDistribution:
        """The distribution of the lengths so far; sorts them."""
        return length_distribution(self._lengths, self._total, self._longest, self._longest_line)


def length_distribution(
    lengths: Sequence[int], total: int, longest: int, longest_line: int | None
) -> LengthDistribution:
    """The distribution of `lengths`, with total and maximum as they are given; zeros where there are none."""
    ordered = sorted(lengths) or [0]
    return LengthDistribution(
        total, ordered[len(ordered) // 2], ordered[len(ordered) * 95 // 100], longest, longest_line
    )


def uneven_lengths(
    lengths: LengthDistribution, n_rows: int, unit: str, min_length: int = UNEVEN_LENGTH
) -> Problem | None:
    """The warning on the longest row, where it outweighs the others; else None.

    `unit` is the word for what lengths count; no row under `min_length` of them is an outlier.
    """
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
