"""A mutex for the threads of all processes that use one folder; the kernel releases it however its holder ends."""

import fcntl
import os
import threading
from pathlib import Path
from types import TracebackType

from luthier.process import private_folder


class FolderMutex:
    """`with` holds it: one thread of one process at a time. It locks the folder itself, and writes no file.

    Waits without a limit: its holders neither compute nor wait for anybody. Not reentrant.
    """

    def __init__(self, folder: Path) -> None:
        """Creates nothing: the folder is made, with mode 0700, at the first use."""
        self._folder = folder
        self._threads = threading.Lock()
        self._descriptor = -1

    def __enter__(self) -> None:
        """Takes it. Raises OSError, and then holds nothing, for a folder that cannot be opened or locked."""
        self._threads.acquire()
        try:
            private_folder.create(self._folder)
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError:
                os.close(descriptor)
                raise
            self._descriptor = descriptor
        except BaseException:
            self._threads.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Closing is not enough: a child that is being started shares the descriptor until its exec.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
        self._threads.release()
