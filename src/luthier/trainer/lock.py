"""The run's lock: one trainer at a run, and none that goes on at a run which was taken from under it."""

import fcntl
import os
from pathlib import Path


class RunTaken(Exception):
    """Another trainer has the run, or the run directory is not the one any more that this one began with."""


class Lock:
    """Held from its making to the end of the process, however that comes. Raises RunTaken where another holds it.

    The file holds our process id: whoever finds the run locked can tell by whom.
    """

    def __init__(self, path: Path) -> None:
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
        """Raises RunTaken where the file at the path is not the one that we hold: we were stopped, given up, replaced.

        A process that wakes late cannot know otherwise: the lock that it holds is then one on a deleted file.
        """
        try:
            there = self._path.stat()
        except FileNotFoundError:
            raise RunTaken("the run directory was removed") from None
        if not os.path.samestat(there, os.fstat(self._stream.fileno())):
            raise RunTaken("the run directory was removed and made anew")

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
