"""Folders of the data folder that are there whole or not at all, whatever other processes make at the same time."""

import shutil
from collections.abc import Callable
from pathlib import Path

from luthier.atomic_io import fsync_path
from luthier.process import owner_mark
from luthier.service.context import Context


def make(context: Context, folder: Path, fill: Callable[[Path], object]) -> None:
    """Makes a folder by `fill`, which is given an empty one to write to. If another process is first, its folder stays.

    Unfinished ones of processes that have ended are removed; raises what `fill` raises, and then leaves nothing.
    """
    own = owner_mark.own(context.served_folder)
    temporary = folder.with_name(f".{folder.name}.{own}.tmp")
    _remove_unfinished(context, folder.parent, f".{folder.name}.*tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        fill(temporary)
        temporary.rename(folder)  # fails if there is one with contents: rename(2)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    fsync_path(folder.parent)


def remove_leftovers(context: Context) -> None:
    """Removes the unfinished run directories and copies for engines of processes that have ended."""
    for parent in (context.runs_folder, context.served_folder):
        _remove_unfinished(context, parent, ".*.*tmp")


def _remove_unfinished(context: Context, parent: Path, pattern: str) -> None:
    for leftover in parent.glob(pattern):
        if owner_mark.has_ended(context.served_folder, leftover.name.split(".")[-2]):
            shutil.rmtree(leftover, ignore_errors=True)
