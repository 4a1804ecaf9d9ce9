"""Line charts as text: Braille dots, or letters where colours or Unicode are missing; axes, range of y, legend.

plotext was not taken: it imports 260 modules in 0.3 s, and its wheels are compiled for one platform each.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from rich.text import Text

from luthier.cli.charts.metrics import Points

MIN_WIDTH, MIN_ROWS = 24, 3
_LABEL = 7
"""Cells of a value beside the chart."""
STYLES = ("cyan", "yellow", "magenta", "green", "blue", "red", "bright_cyan", "bright_yellow", "bright_magenta")
MARKERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a Braille character, by row and column of its 4 x 2 dots."""
_BRAILLE = 0x2800


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart. `marker` is the letter that draws it where the lines cannot have colours."""

    label: str
    marker: str
    style: str
    points: Points


@dataclass(frozen=True, slots=True)
class Look:
    """What the terminal can show."""

    is_unicode: bool
    is_coloured: bool


@dataclass(frozen=True, slots=True)
class _Plane:
    """The rectangle of steps and values that is drawn, and its size in dots."""

    first: float
    last: float
    low: float
    high: float
    width: int
    height: int

    def column(self, step: float) -> int:
        """The column of dots of a step."""
        span = (self.last - self.first) or 1.0
        return min(self.width - 1, max(0, round((step - self.first) / span * (self.width - 1))))

    def row(self, value: float) -> int:
        """The row of dots of a value, 0 at the top."""
        return round((self.high - value) / (self.high - self.low) * (self.height - 1))


def draw(
    lines: Sequence[Line], width: int, rows: int, look: Look, last_step: float | None = None, title: str = ""
) -> list[Text]:
    """The chart of the lines in `width` cells and `rows` rows of dots, with four more lines for title, axis, steps and
    legend. The axis ends at `last_step`, or at the last point. Without points, or in less than MIN_WIDTH cells, it is
    empty.
    """
    drawn = [line for line in lines if line.points]
    if not drawn or width < MIN_WIDTH or rows < MIN_ROWS:
        return []
    as_letters = not look.is_unicode or (len(lines) > 1 and not look.is_coloured)
    wide, high = (1, 1) if as_letters else (2, 4)
    columns = width - _LABEL - 2
    plane, means = _plane(drawn, columns * wide, rows * high, last_step)
    labels = _labels(plane.low, plane.high, rows)
    cells: dict[tuple[int, int], tuple[int | str, str]] = {}
    for line, points in zip(drawn, means, strict=True):
        for x, y in _dots(plane, points):
            key = (y // high, x // wide)
            before = cells.get(key, (0, ""))[0]
            bits = before if isinstance(before, int) else 0
            cells[key] = (line.marker if as_letters else bits | _DOTS[y % 4][x % 2], line.style)
    shown = [Text(f"{title}{_averaged(drawn, plane)}"[:width], "dim")]
    for row in range(rows):
        edge = ("┤" if labels[row] else "│") if look.is_unicode else "|"
        shown.append(Text.assemble((f"{labels[row]:>{_LABEL}} {edge}", "dim"), _row_text(cells, row, columns)))
    shown += _axis(plane, columns, look.is_unicode)
    return [*shown, *_legend(lines, width, as_letters)]


def _plane(lines: Sequence[Line], width: int, height: int, last_step: float | None) -> tuple[_Plane, list[Points]]:
    """The plane that holds every line, and the mean of each line's points in each column of dots."""
    steps = [step for line in lines for step, _ in line.points]
    first, last = min(steps), max(max(steps), last_step or 0.0)
    flat = _Plane(first, last, 0.0, 1.0, width, height)
    means = [list(_means(flat, line.points)) for line in lines]
    values = [value for points in means for _, value in points]
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    return _Plane(first, last, low, high, width, height), means


def _means(plane: _Plane, points: Points) -> Iterator[tuple[float, float]]:
    """One point for each column of dots that has any: the mean of its steps' values."""
    for _, group in groupby(points, key=lambda point: plane.column(point[0])):
        together = list(group)
        yield together[-1][0], sum(value for _, value in together) / len(together)


def _dots(plane: _Plane, points: Points) -> Iterator[tuple[int, int]]:
    """Column and row of each dot of a line through the points."""
    places = [(plane.column(step), plane.row(value)) for step, value in points]
    yield places[0]
    for (x0, y0), (x1, y1) in pairwise(places):
        n = max(abs(x1 - x0), abs(y1 - y0), 1)
        for i in range(1, n + 1):
            yield round(x0 + (x1 - x0) * i / n), round(y0 + (y1 - y0) * i / n)


def _row_text(cells: dict[tuple[int, int], tuple[int | str, str]], row: int, columns: int) -> Text:
    """A row of the chart, neighbouring cells of one style as one piece."""
    text = Text()
    keys = [cells.get((row, column), (0, "")) for column in range(columns)]
    for style, group in groupby(keys, key=lambda cell: cell[1]):
        marks = (mark for mark, _ in group)
        text.append("".join(m if isinstance(m, str) else chr(_BRAILLE + m) if m else " " for m in marks), style)
    text.rstrip()
    return text


def _labels(low: float, high: float, rows: int) -> list[str]:
    """The value at the top, in the middle and at the bottom; empty for the other rows."""
    middle = (rows - 1) // 2
    at = {0: high, middle: high - (high - low) * middle / max(1, rows - 1), rows - 1: low}
    return [_number(at[row]) if row in at else "" for row in range(rows)]


def _number(value: float) -> str:
    """The value with four significant digits, or as many as fit."""
    return next((text for digits in (4, 3, 2) if len(text := f"{value:.{digits}g}") <= _LABEL), f"{value:.0e}")


def _axis(plane: _Plane, columns: int, is_unicode: bool) -> list[Text]:
    """The axis of steps, with the first and the last."""
    corner, dash = ("└", "─") if is_unicode else ("+", "-")
    first, last = f"{plane.first:g}", f"{plane.last:g}"
    words = first + "step".center(max(0, columns - len(first) - len(last))) + last
    return [Text(" " * (_LABEL + 1) + corner + dash * columns, "dim"), Text(" " * (_LABEL + 2) + words, "dim")]


def _legend(lines: Sequence[Line], width: int, as_letters: bool) -> Iterator[Text]:
    """Marker or colour of each line with its label, as many on a row as fit."""
    text = Text()
    for line in lines:
        mark = line.marker if as_letters else "⠤⠤"
        empty = "" if line.points else " (no values)"
        item = Text.assemble((mark, line.style), f" {line.label}{empty}")
        if text and text.cell_len + 3 + item.cell_len > width:
            yield text
            text = Text()
        text.append("   " if text else "").append_text(item)
    yield text


def _averaged(lines: Sequence[Line], plane: _Plane) -> str:
    """Says that a dot is a mean, where more points than columns are drawn."""
    per_dot = math.ceil(max(len(line.points) for line in lines) / plane.width)
    return f", each dot the mean of about {per_dot} values" if per_dot > 1 else ""
