"""An advisory lock on a folder, exclusive or shared, which the kernel releases however its holder ends.

`data_folder` takes it, so that only one service uses a data folder, or only processes that share it.
"""

import errno
import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from luthier.core.errors import Conflict, Unavailable

_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""The errors of a file system without locks."""


class FolderLock:
    """A lock, held from `acquire` to `release` or to the end of the process; children do not inherit the descriptor.

    The file names the holder: JSON with pid, host, since, and what `describe` adds. It is not deleted on release: a
    file deleted under a waiting opener would allow two holders.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        """Takes over the open descriptor of a file that is locked already; `acquire` makes locks."""
        self._path = path
        self._descriptor = descriptor
        self._holder: dict[str, object] = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def describe(self, **fields: object) -> None:
        """Adds fields to the lock file, for the message of a later Conflict: an address once the port is bound.

        Raises OSError if the file cannot be written.
        """
        self._holder |= fields
        text = json.dumps(self._holder).encode() + b"\n"
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))

    def share(self) -> None:
        """Makes an exclusive lock a shared one. Others may get theirs in between."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def release(self) -> None:
        """Releases the lock and closes the file, which stays. Idempotent."""
        if self._descriptor >= 0:
            # Closing is not enough: a child that is being started shares the descriptor until its exec.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = -1


def acquire(path: Path, what: str, advice: str, is_shared: bool = False, **fields: object) -> FolderLock:
    """Acquires the lock on the file, which is created if needed; never waits. `what` is the subject of the message.

    A shared one may have many holders, of whom the file names the latest. Raises Conflict, which names the holder, if
    another process has it; Unavailable if the file system has no locks; OSError if the file cannot be opened for
    writing.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder_words(descriptor)
        os.close(descriptor)
        raise Conflict("folder_in_use", f"{what} is in use by {holder}. {advice}") from None
    except OSError as error:
        os.close(descriptor)
        if error.errno not in _NO_LOCKS:
            raise
        text = f"The file system of {path.parent} has no locks, so two processes could use it at once. Choose another."
        raise Unavailable("no_locks", text) from error
    lock = FolderLock(path, descriptor)
    try:
        lock.describe(**fields)
    except OSError:
        lock.release()
        raise
    return lock


def _holder_words(descriptor: int) -> str:
    """The holder in words, from the lock file; "another process" if it holds the lock and has not written yet."""
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        words = f"process {int(holder['pid'])} on host {holder['host']!s:.100}, since {holder['since']!s:.40}"
        address = holder.get("address")
    except (ValueError, TypeError, KeyError):
        return "another process"
    return words if address is None else f"{words}, at {address!s:.100}"
