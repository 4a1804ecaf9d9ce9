"""Trainers of this machine that are no processes we can see, as those of another container: known by the run's lock.

No signal reaches such a trainer. It ends once the lock's file is gone, which it checks at each step (`trainer.run.
run_lock`): nothing that it computes after that is written.
"""

import fcntl
import time
from pathlib import Path

from luthier.run_directory.run_directory import RunDirectory

_PREFIX = "lock:"
_LOOK_S = 0.05


def handle(run: Path) -> str:
    """The handle of whatever holds the lock of that run directory."""
    return f"{_PREFIX}{run}"


def run_of(handle: str) -> Path | None:
    """The run directory of such a handle; None for every other handle."""
    return Path(handle.removeprefix(_PREFIX)) if handle.startswith(_PREFIX) else None


def holds_lock(run: Path) -> bool:
    """Whether any process holds the run's lock, which is taken for a moment if it is free."""
    try:
        with RunDirectory(run).lock.open("r+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def end(run: Path, within_s: float) -> None:
    """Takes the run away from its trainer; waits until that has exited, `within_s` at most."""
    lock = RunDirectory(run).lock
    try:
        with lock.open("r+") as stream:
            lock.unlink(missing_ok=True)
            deadline = time.monotonic() + within_s
            while not _is_free(stream.fileno()) and time.monotonic() < deadline:
                time.sleep(_LOOK_S)
    except FileNotFoundError:
        return


def _is_free(descriptor: int) -> bool:
    """Whether the lock of an open file can be taken."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
