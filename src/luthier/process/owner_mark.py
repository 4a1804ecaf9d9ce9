"""A file in a folder whose lock tells other processes that the process which made it lives, wherever they run.

A pid would not tell it: in another container, or on another machine, the same pid is another process or none. The
kernel, or the file server, releases the lock however its holder ends.
"""

import fcntl
import os
import secrets
import threading
from pathlib import Path

from luthier.process import private_folder

_PREFIX = ".alive-"
_own: dict[tuple[int, Path], str] = {}
_making = threading.Lock()


def own(folder: Path) -> str:
    """The name of this process in a folder, eight hex digits; its mark is made at the first call, in a folder that is
    created if need be, and held to the end of the process. Raises OSError.
    """
    key = os.getpid(), folder.absolute()  # a forked child has no mark of its own yet
    with _making:
        if key not in _own:
            private_folder.create(folder)
            _own[key] = _make(folder)
        return _own[key]


def has_ended(folder: Path, name: str) -> bool:
    """Whether the process of that name in the folder has surely ended; then its mark is removed."""
    mark = folder / f"{_PREFIX}{name}"
    try:
        with mark.open("r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mark.unlink(missing_ok=True)
    except FileNotFoundError:
        return True
    except OSError:  # it is held; or nobody can know
        return False
    return True


def _make(folder: Path) -> str:
    """Makes and locks a new mark. The file is never closed: its lock would end."""
    while True:
        name = secrets.token_hex(4)
        mark = folder / f"{_PREFIX}{name}"
        descriptor = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if os.path.samestat(mark.stat(), os.fstat(descriptor)):
                return name
        except FileNotFoundError:  # somebody took it for one that was left, before it was locked
            pass
        os.close(descriptor)
