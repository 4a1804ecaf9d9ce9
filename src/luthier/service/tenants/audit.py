"""The audit log: one line per change that an authenticated caller requested, in audit.jsonl of the data folder.

A file, not a table: it outlives the database and the resources that it names, takes no write lock from the changes
themselves, and any log shipper can read it. Lines hold only names and ids, never a key, a row or a prompt.
"""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

logger = logging.getLogger("luthier.audit")

OPERATOR = "operator"
"""The caller of a command on the data folder itself."""
MAX_ID_CHARACTERS = 200
_REFUSED = 400


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


def _is_torn(descriptor: int) -> bool:
    """Whether the file's last line lacks its newline, because a crash cut it off."""
    length = os.fstat(descriptor).st_size
    return length > 0 and os.pread(descriptor, 1, length - 1) != b"\n"
