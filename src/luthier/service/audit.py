"""The audit log: one line for each change that a known caller asked for, appended to audit.jsonl in the data folder.

A file and no table: it outlives the database and the resources that it tells of, takes no write lock from the changes
themselves, and any log shipper can read it. Lines hold names and ids alone, never a key, a row or a prompt.
"""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

logger = logging.getLogger("luthier.audit")

OPERATOR = "operator"
"""Who acts through a command on the data folder itself."""
MAX_ID_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Entry:
    """`who` did `action` on `id`, and how it ended: an HTTP status, or 0 for a command of the operator."""

    at: str
    resource: str
    who: str
    action: str
    route: str
    id: str
    status: int
    request_id: str


def append(path: Path, entry: Entry) -> None:
    """Writes one line, whole and durable before it returns. A full disk costs the line, which the log then has."""
    line = json.dumps(asdict(entry), separators=(",", ":"))
    logger.info("%s", line)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # One write to a file opened for appending: lines of two processes do not mix.
            torn = _is_torn(descriptor)
            os.write(descriptor, (b"\n" if torn else b"") + line.encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        logger.error("audit line not written reason=%s line=%s", error.strerror, line)


def entry(
    now: datetime, resource: str, who: str, action: str, route: str, id: str, status: int, request_id: str
) -> Entry:
    return Entry(now.isoformat(), resource, who, action, route, id[:MAX_ID_CHARACTERS], status, request_id)


def read(path: Path) -> Iterator[Entry]:
    """The lines of the log, the oldest first; a line that a crash tore is passed over."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        for line in stream:
            try:
                yield Entry(**json.loads(line))
            except (ValueError, TypeError):
                logger.warning("audit line not readable bytes=%d", len(line))


def _is_torn(descriptor: int) -> bool:
    length = os.fstat(descriptor).st_size
    return length > 0 and os.pread(descriptor, 1, length - 1) != b"\n"
