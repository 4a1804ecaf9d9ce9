"""Problems of one kind as one group with the numbers of their lines: what people read of a long report."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from luthier.data.problem import Problem, Severity

SHOWN_RANGES = 12


@dataclass(frozen=True, slots=True)
class Group:
    """All problems of one code; `first` stands for them. `lines` are in order, each once; empty for the whole file."""

    first: Problem
    lines: tuple[int, ...]
    count: int

    @property
    def where(self) -> str:
        """The lines in words: `lines 3, 7-9 and 12`."""
        if not self.lines:
            return "the file"
        return ("line " if len(self.lines) == 1 else "lines ") + ranges(self.lines)


def groups(problems: Iterable[Problem]) -> list[Group]:
    """Errors first, and then the kinds in the order of their first lines."""
    found: dict[tuple[Severity, str], list[Problem]] = {}
    for problem in problems:
        found.setdefault((problem.severity, problem.code), []).append(problem)
    made = [
        Group(same[0], tuple(sorted({one.line for one in same if one.line is not None})), len(same))
        for same in found.values()
    ]
    return sorted(made, key=lambda group: group.first.severity is Severity.WARNING)


def ranges(numbers: Sequence[int], most: int = SHOWN_RANGES) -> str:
    """Numbers in rising order in few words: `1-3, 5 and 2 more`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans[:most])
    left = sum(last - first + 1 for first, last in spans[most:])
    return f"{shown} and {left:,} more" if left else shown
