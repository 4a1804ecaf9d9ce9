"""Output of the commands: the result on stdout, all else on stderr; tables, JSON and errors.

Names, ids and messages are untrusted text: all output passes here, where control characters are escaped. What each
command prints is in docs/command-line-output.md.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from luthier.process import printable

if TYPE_CHECKING:  # imported on use: help should not wait for it
    from rich.progress import Progress, ProgressColumn
    from rich.status import Status

_GAP, _INDENT = 2, 2
_RATE, _CALM_RATE = 10, 4
"""How often a bar is drawn in a second."""
_RECENT_S = 183 * 86_400
"""As in `ls`: of an older time the year is shown, not the time of day."""


class Screen(Console):
    """A console that sends no control characters but its own, and reads no text as markup unless asked."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=True, markup=False, emoji=False)
        self.as_json = False

    @property
    def draws(self) -> bool:
        """Whether bars, spinners and charts that move are drawn: in a terminal that can move its cursor, unless --json
        or --quiet was given.
        """
        return self.is_terminal and not (self.is_dumb_terminal or self.as_json or self.quiet)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escapes control characters in each segment's text; styles are not text yet, so they stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable.escape_text(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Raises the BrokenPipeError again: cli.faults decides the exit code."""
        raise


screen = Screen()
errors = Screen(stderr=True)


def _note_json(value: bool) -> bool:
    """The callback of --json: errors are JSON too then."""
    errors.as_json = value
    return value


def _note_quiet(value: bool) -> bool:
    """The callback of --quiet: from now on stderr has only an error that ends the command."""
    errors.quiet = value
    return value


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON array.", callback=_note_json)]
"""The option of every command that lists."""
OneAsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.", callback=_note_json)]
"""The option of commands whose result is one thing."""
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only ids or paths, one a line.", callback=_note_quiet)
]
"""The option of every command: no table, no sentence, no progress."""


def begin(arguments: Sequence[str]) -> None:
    """Sets how errors are printed before the arguments are parsed: a command line that is wrong has no options yet."""
    own = arguments[: list(arguments).index("--")] if "--" in arguments else arguments
    errors.as_json, errors.quiet = "--json" in own, False


def present(value: object, ids: Iterable[object], text: Callable[[], object], json_: bool, quiet: bool) -> None:
    """Prints a command's result in the form that was asked for: `value` as JSON (a list as one array), only `ids`, one
    a line, or what `text` prints. With both options it is JSON.
    """
    if json_ and isinstance(value, list):
        print_objects(value)
    elif json_:
        print_json(value)
    elif quiet:
        for id in ids:
            print(_cell(id))
    else:
        text()


def present_object(value: object, id: object, json_: bool, quiet: bool) -> None:
    """Prints one thing as JSON, for `show`, which has no other form; quiet its id."""
    present(value, [id], lambda: print_json(value), json_, quiet)


def delete_each(ids: Iterable[str], delete: Callable[[str], object], json_: bool, quiet: bool) -> None:
    """Deletes one after the other and prints each that is gone, also if a later one cannot be deleted: a line each, as
    JSON {"id", "deleted": true} each. What `delete` raises ends it.
    """
    deleted: list[str] = []
    try:
        for id in ids:
            delete(id)
            deleted.append(id)
            if not json_:
                say(_cell(id) if quiet else f"deleted {id}")
    finally:
        if json_:
            print_objects({"id": id, "deleted": True} for id in deleted)


def say(text: str) -> None:
    """Prints a sentence of a command's result as it is, without colours."""
    screen.print(text, highlight=False, markup=False)


def advise(text: str) -> None:
    """Prints advice to stderr; nothing with --json or --quiet."""
    if not errors.as_json:
        errors.print(text, highlight=False, markup=False)


def confirm(question: str) -> bool:
    """The user's answer to a question, which is asked on stderr; with --json the command ends, as nobody is there."""
    if errors.as_json:
        fail("--json cannot ask for confirmation: give --yes with it.", code="confirmation_needed")
    return typer.confirm(question, err=True)


def progress(
    *columns: "str | ProgressColumn", transient: bool = False, below: RenderableType | None = None
) -> "Progress":
    """A bar on the error stream, and only if that is a terminal: stdout is for the result. What is `below` it is drawn
    as often as the bar, which then moves four times a second.
    """
    from rich.progress import Progress

    class Bars(Progress):
        """Bars, and what is below them."""

        def get_renderables(self) -> Iterable[RenderableType]:
            """What is drawn, from top to bottom."""
            yield from super().get_renderables()
            if below is not None:
                yield below

    rate = _RATE if below is None else _CALM_RATE
    return Bars(*columns, console=errors, transient=transient, disable=not errors.draws, refresh_per_second=rate)


def bytes_progress(transient: bool = False) -> "Progress":
    """A bar over bytes: how many of how many, how fast, how long yet."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(bar_width=None), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(compact=True))
    return progress(TextColumn("{task.description}", markup=False), *columns, transient=transient)


def waiting(text: str) -> "AbstractContextManager[Status | None]":
    """A spinner beside the text for the block, on stderr, only where `progress` draws too."""
    return errors.status(printable.escape_line(text)) if errors.draws else nullcontext()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], shown: Sequence[str] | None = None) -> None:
    """Prints a table, or `none` if it is empty; into a pipe, tab-separated lines without a header, as `gh` does. None
    is an empty cell.

    A row that is wider than the terminal continues on an indented line. No id or name is folded or truncated; of a cell
    with spaces, a sentence, lines that are too long are folded between words. `shown` is the order of the columns in a
    terminal; in a pipe it is that of `columns`, to which later versions only add.
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
                for part in _folded(words, screen.width - len(indent)) if len(group) == 1 else [words]:
                    screen.print(Text(indent + part, "bold" if number == 0 else ""))  # a name in brackets is no markup


def present_table(columns: Sequence[str], rows: Sequence[Sequence[object]], json_: bool, quiet: bool) -> None:
    """Prints a table; as JSON the same cells as objects with the columns' names as keys; quiet, the first column."""
    objects = [dict(zip(columns, row, strict=True)) for row in rows]
    present(objects, (row[0] for row in rows), lambda: table(columns, rows), json_, quiet)


def print_objects(objects: Iterable[dict[str, Any]]) -> None:
    """Prints a list as one JSON array on stdout, one line per object; `[]` for none."""
    lines = ",\n  ".join(map(_json, objects))
    print(f"[\n  {lines}\n]" if lines else "[]")


def print_json(value: object, indent: int | None = 2) -> None:
    """Prints one JSON value on stdout; control characters are JSON escapes, so that a parser reads the original."""
    print(_json(value, indent))


def fail(message: str, exit_code: int = 1, code: str = "failed", param: str | None = None) -> NoReturn:
    """Prints an error to stderr and ends the command with `exit_code`, by raising typer.Exit. With --json it is one
    line of JSON in the API's shape: {"error": {"code", "message", "param"}}.
    """
    errors.quiet = False
    if errors.as_json:
        errors.print(_json({"error": {"code": code, "message": message, "param": param}}), highlight=False)
    else:
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


def _folded(text: str, room: int) -> Iterable[str]:
    """The text in lines of at most `room` cells, folded between words; a longer word is a line of its own."""
    line = ""
    for word in text.split(" "):
        if line and cell_len(line) + 1 + cell_len(word) > room:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line


def _cell(value: object) -> str:
    """A cell's text with control characters escaped; empty for None."""
    return "" if value is None else printable.escape_line(str(value))


def _json(value: object, indent: int | None = None) -> str:
    """The value as JSON text with control characters escaped; on one line without `indent`."""
    return printable.escape_text(json.dumps(value, ensure_ascii=False, indent=indent))
