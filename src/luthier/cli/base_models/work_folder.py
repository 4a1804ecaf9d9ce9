"""A locked work folder beside the final one: written by one process, renamed when complete. `pull` uses it, so that a
base model's folder is never seen half written.
"""

import fcntl
import os
import shutil
from pathlib import Path

from luthier.atomic_io import fsync_path, fsync_tree


class BeingPulled(Exception):
    """Another process holds the lock of the folder; it may be the child of a pull that was killed."""


class WorkFolder:
    """A context manager: the folder exists, locked and empty, on entry, and is removed on exit unless it was renamed by
    `become`. Entering raises BeingPulled instead of waiting.

    The lock is flock(2) on the folder itself: it ends with the last process that has it open. A kill leaves no stale
    lock, and a child that inherits `descriptor` (-1 before entry) and outlives its parent keeps others out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = -1

    def __enter__(self) -> "WorkFolder":
        """Creates and locks the folder, and deletes what an earlier holder left in it. Raises BeingPulled if it is
        locked.
        """
        while True:
            self.path.mkdir(exist_ok=True)
            try:
                self.descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:  # its holder left it just now
                continue
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self.descriptor)
                raise BeingPulled(f"{self.path} is locked") from None
            if self._is_ours():
                break
            os.close(self.descriptor)
        for leftover in self.path.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()
        return self

    def become(self, folder: Path) -> None:
        """Syncs the folder to disk and renames it to `folder`; an existing one is moved aside and removed. From then on
        leaving the block removes nothing.
        """
        fsync_tree(self.path)
        before = self.path.with_name(f"{self.path.name}.old")
        shutil.rmtree(before, ignore_errors=True)
        if folder.exists():
            folder.rename(before)
        self.path.rename(folder)
        fsync_path(folder.parent)
        shutil.rmtree(before, ignore_errors=True)

    def __exit__(self, *_: object) -> None:
        """Removes the folder unless it was renamed, and gives the lock back."""
        if self._is_ours():
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.descriptor)

    def _is_ours(self) -> bool:
        """Whether the path still names the locked folder: it may have been renamed or removed meanwhile."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self.descriptor))
        except FileNotFoundError:
            return False
