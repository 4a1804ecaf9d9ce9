"""The run's lock: one trainer per run, and no trainer continues a run that was taken over."""

import fcntl
import os
from pathlib import Path


class RunTaken(Exception):
    """Another trainer holds the run, or the run directory was replaced since this one started. No fault of the run."""


class Lock:
    """An exclusive flock on the run's lock file, until the context ends or the process does.

    The file contains our process id, so that the holder of a locked run can be identified.
    """

    def __init__(self, path: Path) -> None:
        """Takes the lock and writes our process id, without waiting. Raises RunTaken if another process holds it."""
        self._path = path
        self._stream = path.open("a")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._stream.close()
            raise RunTaken("another trainer has this run") from None
        self._stream.truncate(0)
        self._stream.write(str(os.getpid()))
        self._stream.flush()

    def check(self) -> None:
        """Raises RunTaken if the file at the path is not the one that we hold (a fencing check).

        A process that was suspended and replaced holds the lock of a deleted file, and learns of it only here.
        """
        try:
            current = self._path.stat()
        except FileNotFoundError:
            raise RunTaken("the run directory was removed") from None
        if not os.path.samestat(current, os.fstat(self._stream.fileno())):
            raise RunTaken("the run directory was removed and made anew")

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        """Releases the lock; the file stays."""
        self._stream.close()
