"""luthier check --fix: writes the repaired copy and reports the changes."""

from array import array
from collections.abc import Mapping
from pathlib import Path

import typer

from luthier.atomic_io import read_chunks
from luthier.cli.screen import fail, screen
from luthier.process import printable

Changes = Mapping[str, "array[int]"]
"""Lines of the input by the code of the repair."""


def write(file: Path, out: Path, encoding: str | None) -> Changes:
    """Writes the repaired copy of `file` to `out` atomically; returns what was changed. An existing file is never
    overwritten.

    `encoding` is that of lines that are not UTF-8; without one it is detected, and must be certain. Ends the command
    with exit code 2 for an `out` that exists or has no folder, and with 1, writing nothing, for a file that cannot be
    repaired.
    """
    from luthier.data.repair import file_repair

    if out.exists():
        same = "the file itself" if out.samefile(file) else "there already"
        raise typer.BadParameter(
            printable.escape_line(f"{out} is {same}. Name a file that does not exist yet."), param_hint="--fix"
        )
    if not out.parent.is_dir():
        raise typer.BadParameter(printable.escape_line(f"there is no folder {out.parent}."), param_hint="--fix")
    partial = out.with_name(f".{out.name}.part")
    try:
        repairs = file_repair.FileRepair(encoding or file_repair.detect_encoding(read_chunks(file)))
        with partial.open("wb") as stream:
            stream.writelines(repairs.lines(read_chunks(file)))
        partial.rename(out)
    except file_repair.Unrepairable as error:
        fail(f"{file} is left as it is, and {out} not written: {str(error).removesuffix('.')}.")
    finally:
        partial.unlink(missing_ok=True)
    return repairs.changes


def show(out: Path, changes: Changes) -> None:
    """Prints each kind of change with the lines of the original that have it."""
    from luthier.data.problems import problem_groups
    from luthier.data.repair import file_repair

    screen.print(f"{out} is written. What was changed, by the lines of the original:", highlight=False, markup=False)
    for code, lines in changes.items():
        words = (
            "the whole file"
            if code in file_repair.FILE_CHANGES
            else f"line {problem_groups.format_lines(sorted(set(lines)))}"
        )
        screen.print(
            f"  {printable.escape_line(file_repair.change_text(code))}: {words}", highlight=False, markup=False
        )
    if not changes:
        screen.print("  nothing")
    screen.print()


def as_dicts(changes: Changes) -> list[dict[str, object]]:
    """The changes as JSON objects: code, message and sorted line numbers of the original."""
    from luthier.data.repair import file_repair

    return [
        {"code": code, "message": file_repair.change_text(code), "lines": sorted(set(lines))}
        for code, lines in changes.items()
    ]
