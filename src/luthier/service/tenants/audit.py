"""The audit log: one line per change that an authenticated caller requested, in audit.jsonl of the data folder.

A file, not a table: it outlives the database and the resources that it names, takes no write lock from the changes
themselves, and any log shipper can read it. Lines hold only names and ids, never a key, a row or a prompt.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

logger = logging.getLogger("luthier.audit")

OPERATOR = "operator"
"""The caller of a command on the data folder itself."""
MAX_ID_CHARACTERS = 200
_REFUSED = 400
_BLOCK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """`who` did `action` on `id` at `at` (ISO 8601); `status` is an HTTP status, or 0 for a command of the operator."""

    at: str
    resource: str
    who: str
    action: str
    route: str
    id: str
    status: int
    request_id: str


def append(path: Path, entry: Entry) -> None:
    """Appends one line atomically and fsyncs it. On a full disk the line goes to the process's log instead."""
    line = _line(entry)
    # The id of a refused request may be any text of the caller's: it stays out of the process's log.
    logged = line if entry.status < _REFUSED else _line(replace(entry, id=""))
    logger.debug("%s", logged)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # One write to a file opened for appending: lines of two processes do not mix.
            is_torn = _is_torn(descriptor)
            os.write(descriptor, (b"\n" if is_torn else b"") + line.encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        logger.error("audit line not written reason=%s line=%s", error.strerror, logged)


def make_entry(
    now: datetime, resource: str, who: str, action: str, route: str, id: str, status: int, request_id: str
) -> Entry:
    """An entry for `append`, its id cut to MAX_ID_CHARACTERS: it may be any text of the caller's."""
    return Entry(now.isoformat(), resource, who, action, route, id[:MAX_ID_CHARACTERS], status, request_id)


def _line(entry: Entry) -> str:
    return json.dumps(asdict(entry), separators=(",", ":"))


def read_entries(path: Path) -> Iterator[Entry]:
    """The entries of the log, oldest first, none without a log; a line that a crash left incomplete is skipped."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        for line in stream:
            try:
                yield Entry(**json.loads(line))
            except (ValueError, TypeError):
                logger.warning("audit line not readable bytes=%d", len(line))


@dataclass(frozen=True, slots=True)
class NewestEntries:
    """A page of entries, newest first. `before` is the offset in the file to go on from, None at its beginning."""

    entries: list[Entry]
    before: int | None


def read_newest(
    path: Path, resource: str | None, action: str | None, before: int | None, limit: int, max_bytes: int = 4 * 2**20
) -> NewestEntries:
    """At most `limit` entries of that account and action (None: of all), from the file's end or `before` backwards.

    Reads blocks from the end, at most about `max_bytes`, so that a file of any length answers at once: a page may have
    fewer entries than follow. Without a file there are none.
    """
    wanted = {name: value for name, value in (("resource", resource), ("action", action)) if value is not None}
    marks = [json.dumps({name: value}, separators=(",", ":"))[1:-1].encode() for name, value in wanted.items()]
    entries: list[Entry] = []
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return NewestEntries([], None)
    with stream:
        length = stream.seek(0, os.SEEK_END)
        first = position = length if before is None else min(before, length)
        rest = b""
        while position > 0 and first - position < max_bytes:
            start = max(0, position - _BLOCK_BYTES)
            stream.seek(start)
            block = stream.read(position - start) + rest
            lines = block.split(b"\n")
            rest = lines.pop(0) if start else b""
            offset = start + len(block) + 1
            for line in reversed(lines):
                offset -= len(line) + 1
                # A look for the bytes first: parsing every line of a busy neighbour would take most of the time.
                if line and all(mark in line for mark in marks) and (entry := _parsed(line, wanted)) is not None:
                    entries.append(entry)
                    if len(entries) == limit:
                        return NewestEntries(entries, offset or None)
            position = start
        return NewestEntries(entries, position + len(rest) if position else None)


def _parsed(line: bytes, wanted: Mapping[str, str]) -> Entry | None:
    """The entry of a line; None for an incomplete line, and for an entry whose fields are not as wanted."""
    try:
        entry = Entry(**json.loads(line))
    except (ValueError, TypeError):
        return None
    if not isinstance(entry.status, int) or not isinstance(entry.at, str):  # a line written by hand
        return None
    return entry if asdict(entry).items() >= wanted.items() else None


def _is_torn(descriptor: int) -> bool:
    """Whether the file's last line lacks its newline, because a crash cut it off."""
    length = os.fstat(descriptor).st_size
    return length > 0 and os.pread(descriptor, 1, length - 1) != b"\n"
