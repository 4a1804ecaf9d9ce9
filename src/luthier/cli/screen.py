"""Output of the commands: the result on stdout, all else on stderr; tables, JSON and errors.

Names, ids and messages are untrusted text: all output passes here, where control characters are escaped.
"""

import json
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from luthier.process import printable

if TYPE_CHECKING:  # imported on use: help should not wait for it
    from rich.progress import Progress, ProgressColumn

AsJson = Annotated[bool, typer.Option("--json", help="Print the API objects as one JSON array.")]
"""The option of every command that lists."""
OneAsJson = Annotated[bool, typer.Option("--json", help="Print the API object as JSON.")]
"""The option of commands whose result is one thing."""

_GAP, _INDENT = 2, 2
_RECENT_S = 183 * 86_400
"""As in `ls`: of an older time the year is shown, not the time of day."""


class Screen(Console):
    """A console that sends no control characters but its own, and reads no text as markup unless asked."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=True, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escapes control characters in each segment's text; styles are not text yet, so they stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable.escape_text(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Raises the BrokenPipeError again: cli.faults decides the exit code."""
        raise


screen = Screen()
errors = Screen(stderr=True)


def progress(*columns: "str | ProgressColumn", transient: bool = False) -> "Progress":
    """A bar on the error stream, and only if that is a terminal: stdout is for the result."""
    from rich.progress import Progress

    return Progress(*columns, console=errors, transient=transient, disable=not errors.is_terminal)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], shown: Sequence[str] | None = None) -> None:
    """Prints a table, or `none` if it is empty; into a pipe, tab-separated lines without a header, as `gh` does. None
    is an empty cell.

    A row that is wider than the terminal continues on an indented line: no cell is folded or truncated. `shown` is the
    order of the columns in a terminal; in a pipe it is that of `columns`, to which later versions only add.
    """
    cells = [[_cell(cell) for cell in row] for row in rows]
    if not screen.is_terminal:
        for row in cells:
            print("\t".join(row))  # rich would write spaces for tabs
        return
    if not cells:
        screen.print(Text("none", "dim"))
        return
    order = [columns.index(name) for name in shown or columns]
    lines = [[row[index] for index in order] for row in ([*columns], *cells)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    groups = _groups(widths, screen.width)
    for number, line in enumerate(lines):
        for group in groups:
            words = (" " * _GAP).join(line[i] + " " * (widths[i] - cell_len(line[i])) for i in group).rstrip()
            if words or group is groups[0]:
                indent = " " * _INDENT if group is not groups[0] else ""
                screen.print(Text(indent + words, "bold" if number == 0 else ""))  # a name in brackets is no markup


def table_or_json(as_json: bool, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table, or the same cells as JSON objects with the columns' names as keys."""
    if as_json:
        print_objects(dict(zip(columns, row, strict=True)) for row in rows)
    else:
        table(columns, rows)


def print_objects(objects: Iterable[dict[str, Any]]) -> None:
    """Prints a list as one JSON array on stdout, one line per object; `[]` for none."""
    lines = ",\n  ".join(map(_json, objects))
    print(f"[\n  {lines}\n]" if lines else "[]")


def print_json(value: object, indent: int | None = 2) -> None:
    """Prints one JSON value on stdout; control characters are JSON escapes, so that a parser reads the original."""
    print(_json(value, indent))


def fail(message: str, exit_code: int = 1) -> NoReturn:
    """Prints an error message to stderr and ends the command with `exit_code`, by raising typer.Exit."""
    errors.print(message, style="red", highlight=False)
    raise typer.Exit(exit_code)


def stamp(unix_s: float | None) -> str | None:
    """A local time: in a terminal as `ls` shows it, in a pipe in full. None stays None, an empty cell."""
    if unix_s is None:
        return None
    if not screen.is_terminal:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))
    is_recent = abs(time.time() - unix_s) < _RECENT_S
    return time.strftime("%d %b %H:%M" if is_recent else "%d %b  %Y", time.localtime(unix_s))


def figure(value: float | None) -> str | None:
    """A loss or an accuracy with four decimals; None stays None, an empty cell."""
    return None if value is None else f"{value:.4f}"


def _groups(widths: Sequence[int], room: int) -> list[list[int]]:
    """Indexes of the columns that fit into `room` cells side by side, for each line that a row takes."""
    groups: list[list[int]] = [[]]
    used = 0
    for index, width in enumerate(widths):
        gap = _GAP if groups[-1] else _INDENT if len(groups) > 1 else 0
        if groups[-1] and used + gap + width > room:
            groups.append([])
            used, gap = 0, _INDENT
        groups[-1].append(index)
        used += gap + width
    return groups


def _cell(value: object) -> str:
    """A cell's text with control characters escaped; empty for None."""
    return "" if value is None else printable.escape_line(str(value))


def _json(value: object, indent: int | None = None) -> str:
    """The value as JSON text with control characters escaped; on one line without `indent`."""
    return printable.escape_text(json.dumps(value, ensure_ascii=False, indent=indent))
