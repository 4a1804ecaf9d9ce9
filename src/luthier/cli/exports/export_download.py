"""An export's files into a folder: by ranges, so that a download that broke off continues, each checked by sha256."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.atomic_io import fsync_path, read_chunks
from luthier.cli import client
from luthier.cli import screen as terminal
from luthier.cli.screen import fail

if TYPE_CHECKING:
    from openai import OpenAI

_MARK = ".luthier-export.json"
"""In a folder whose download is not complete: the id of the export."""
_TRIES = 5
"""So many connections in a row may break off without a new byte."""


def require_usable(out: Path, force: bool) -> None:
    """Ends the command for a path that is no folder, or one with files that no earlier download left; else makes it."""
    if out.exists() and not out.is_dir():
        fail(f"{out} is no folder. Name a new one by --out.")
    if out.is_dir() and any(out.iterdir()) and not (force or (out / _MARK).exists()):
        fail(f"{out} is not empty. Name another folder by --out, or replace files in this one by --force.")
    out.mkdir(parents=True, exist_ok=True)


def download(api: "OpenAI", made: dict[str, Any], out: Path) -> None:
    """Downloads the files of a succeeded export; what an earlier call has whole, or in part, is not asked for again.

    Ends the command if bytes are not those that the service made, or if the connection breaks off time and again.
    """
    mark = out / _MARK
    if mark.exists() and json.loads(mark.read_bytes()).get("id") != made["id"]:
        for part in out.glob(".*.part"):
            part.unlink()
    mark.write_text(json.dumps({"id": made["id"]}))
    with terminal.bytes_progress() as progress:
        task = progress.add_task(f"download {made['format']}", total=made["bytes"])
        for file in made["files"]:
            _download_file(api, made["id"], file, out, lambda count: progress.advance(task, count))
    mark.unlink()
    fsync_path(out)


def _download_file(api: "OpenAI", export_id: str, file: dict[str, Any], out: Path, advance: Any) -> None:
    """One file: its .part beside it gets what is missing, and its name once the sha256 is right."""
    from httpx2 import HTTPError
    from openai import APIConnectionError

    target, part = out / Path(file["name"]).name, out / f".{Path(file['name']).name}.part"
    if target.exists() and target.stat().st_size == file["bytes"] and _sha256(target) == file["sha256"]:
        advance(file["bytes"])
        return
    tries = 0
    have = part.stat().st_size if part.exists() else 0
    advance(have)
    while have < file["bytes"]:
        before = have
        try:
            _append(api, export_id, file, part, advance)
        except (APIConnectionError, HTTPError) as error:
            have = part.stat().st_size if part.exists() else 0
            tries = 0 if have > before else tries + 1
            if tries == _TRIES:
                kind = type(error).__name__
                fail(f"The download of {file['name']} broke off at {have} bytes ({kind}). The same command continues.")
            continue
        have = part.stat().st_size
        if have <= before:
            fail(f"The service sends too little of {file['name']}. Run the same command again.")
    if not part.exists():  # a file without bytes
        part.touch()
    if _sha256(part) != file["sha256"]:
        part.unlink()
        fail(f"{file['name']} arrived damaged: its sha256 is another. Run the same command again.")
    part.replace(target)


def _append(api: "OpenAI", export_id: str, file: dict[str, Any], part: Path, advance: Any) -> None:
    """Appends what the part lacks. Raises errors of the connection; what has arrived by then is kept."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-", "If-Range": f'"{file["sha256"]}"'} if have else {}
    with client.export_file(api, export_id, file["name"], headers) as response:
        is_rest = have == 0 or response.status_code == 206
        with part.open("ab" if is_rest else "wb") as stream:
            for chunk in response.iter_bytes():
                stream.write(chunk)
                advance(len(chunk))


def _sha256(path: Path) -> str:
    """The sha256 of a file in hex."""
    digest = hashlib.sha256()
    for chunk in read_chunks(path):
        digest.update(chunk)
    return digest.hexdigest()
