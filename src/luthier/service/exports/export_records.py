"""An export on disk: a folder of its id in `exports/` of the data folder, with export.json, written atomically.

There is no row: an export can be made again from its model at any time, and its bytes never leave this disk but by a
download. Whoever writes holds `context.exports_lock`, which excludes other processes on the same folder too.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from luthier.atomic_io import fsync_path, write_durably
from luthier.core.exports import (
    Export,
    ExportDtype,
    ExportError,
    ExportFile,
    ExportFormat,
    ExportParity,
    ExportResult,
    ExportStatus,
)
from luthier.service.context import Context

_RECORD = "export.json"
FILES = "files"
_KINDS = {"format": ExportFormat, "dtype": ExportDtype, "status": ExportStatus}
_TIMES = ("created_at", "finished_at", "expires_at")


def folder(context: Context, export_id: str) -> Path:
    """The folder of an export; `export_id` must be one of ours, never a caller's text."""
    return context.exports_folder / export_id


def write(context: Context, export: Export) -> None:
    """Writes the record, in a new folder if need be. Raises NoSpace and OSError."""
    own = folder(context, export.id)
    context.exports_folder.mkdir(mode=0o700, exist_ok=True)
    own.mkdir(mode=0o700, exist_ok=True)
    fsync_path(context.exports_folder)
    content = json.dumps(asdict(export), default=lambda value: value.isoformat())
    write_durably(own / _RECORD, content.encode())


def read(context: Context, export_id: str) -> Export | None:
    """The record of that id; None if there is none, or one that a crash of the disk has damaged."""
    try:
        return _export(json.loads((folder(context, export_id) / _RECORD).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_all(context: Context) -> Iterator[Export]:
    """Every export, oldest first."""
    found = (read(context, path.name) for path in context.exports_folder.glob("export-*"))
    yield from sorted(filter(None, found), key=lambda export: (export.created_at, export.id))


def remove(context: Context, export_id: str) -> None:
    """Removes an export: its record first, then its files; a missing one is no error."""
    own = folder(context, export_id)
    (own / _RECORD).unlink(missing_ok=True)
    shutil.rmtree(own, ignore_errors=True)


def remove_leftovers(context: Context) -> None:
    """Removes folders without a record: a crash came between the two halves of `remove`."""
    for path in context.exports_folder.glob("export-*"):
        if not (path / _RECORD).exists():
            shutil.rmtree(path, ignore_errors=True)


def _export(content: dict[str, Any]) -> Export:
    """The export of a record's JSON. Raises ValueError, KeyError and TypeError for one that `write` did not make."""
    typed: dict[str, Any] = {name: kind(content[name]) for name, kind in _KINDS.items()}
    typed |= {name: None if content[name] is None else datetime.fromisoformat(content[name]) for name in _TIMES}
    if content["error"] is not None:
        typed["error"] = ExportError(**content["error"])
    if content["result"] is not None:
        result = content["result"]
        files = tuple(ExportFile(**file) for file in result["files"])
        typed["result"] = ExportResult(files, ExportParity(**result["parity"]), result["seconds"])
    return Export(**content | typed)
