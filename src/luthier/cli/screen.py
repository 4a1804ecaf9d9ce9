"""What the commands print with: one console, tables, and the end of a command that failed."""

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

AsJson = Annotated[bool, typer.Option("--json", help="One JSON array of the objects as the API tells them.")]
"""The option of every command that lists."""

EARLY_STOP = "End after so many epochs without a better validation loss, and keep the best checkpoint as the model."

screen = Console(soft_wrap=True)
errors = Console(stderr=True, soft_wrap=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table; an empty one says so. Into a pipe go tab-separated lines without a head: ids stay whole."""
    if not screen.is_terminal:
        for row in rows:
            print("\t".join("" if cell is None else str(cell) for cell in row))  # rich would write spaces for tabs
        return
    built = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        built.add_column(column, overflow="fold")
    for row in rows:
        built.add_row(*(Text("" if cell is None else str(cell)) for cell in row))  # a name in brackets is no markup
    screen.print(built if built.row_count else "[dim]none[/]")


def print_objects(found: Iterable[dict[str, Any]]) -> None:
    """A list as one JSON array, for programs: one line an object."""
    lines = ",\n  ".join(json.dumps(told, ensure_ascii=False) for told in found)
    print(f"[\n  {lines}\n]" if lines else "[]")


def fail(message: str) -> NoReturn:
    """Prints what is wrong to the error stream and ends the command with status 1."""
    errors.print(message, style="red", highlight=False, markup=False)
    raise typer.Exit(1)
