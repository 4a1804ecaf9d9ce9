"""luthier check --fix: the repaired copy, and what was changed in it."""

from array import array
from collections.abc import Mapping
from pathlib import Path

import typer

from luthier.cli.chunks import read_chunks
from luthier.cli.screen import fail, screen

Changes = Mapping[str, "array[int]"]
"""Lines of the input by the code of what was done to them."""


def write(file: Path, out: Path) -> Changes:
    """Writes the repaired copy, whole or not at all. A file that is there already is never overwritten."""
    from luthier.data import repair

    if out.exists():
        same = "the file itself" if out.samefile(file) else "there already"
        raise typer.BadParameter(f"{out} is {same}. Name a file that does not exist yet.", param_hint="--fix")
    if not out.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {out.parent}.", param_hint="--fix")
    mended = repair.Repair()
    begun = out.with_name(f".{out.name}.part")
    try:
        with begun.open("wb") as stream:
            stream.writelines(mended.lines(read_chunks(file)))
        begun.rename(out)
    except repair.Unrepairable as error:
        fail(f"{file} cannot be repaired: {error}.")
    finally:
        begun.unlink(missing_ok=True)
    return mended.changes


def show(out: Path, changes: Changes) -> None:
    from luthier.data import grouping, repair

    screen.print(f"{out} is written. What was changed, by the lines of the original:", highlight=False, markup=False)
    for code, lines in changes.items():
        words = "the whole file" if code in repair.OF_THE_FILE else f"line {grouping.ranges(sorted(set(lines)))}"
        screen.print(f"  {repair.WORDS[code]}: {words}", highlight=False, markup=False)
    if not changes:
        screen.print("  nothing")
    screen.print()


def as_dicts(changes: Changes) -> list[dict[str, object]]:
    from luthier.data import repair

    return [
        {"code": code, "message": repair.WORDS[code], "lines": sorted(set(lines))} for code, lines in changes.items()
    ]
