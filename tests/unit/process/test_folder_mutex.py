"""A mutex on a folder excludes threads and processes; a shared lock of the folder's file admits its like alone."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from luthier.core.errors import Conflict
from luthier.process import folder_lock
from luthier.process.folder_mutex import FolderMutex

HOLDS = """
import sys
from pathlib import Path
from luthier.process.folder_mutex import FolderMutex
with FolderMutex(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_mutex_is_held_by_one_thread_of_one_process_and_freed_by_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        mutex = FolderMutex(folder)
        inside: list[int] = []
        most: list[int] = []

        def take() -> None:
            with mutex:
                inside.append(1)
                most.append(len(inside))
                inside.pop()

        threads = [threading.Thread(target=take) for _ in range(2)]
        for thread in threads:
            thread.start()
        threads[0].join(0.2)
        assert most == []
        other.kill()
        other.wait()
        for thread in threads:
            thread.join(20)
    assert most == [1, 1]
    assert list(folder.iterdir()) == [], "it writes no file"


def test_shared_locks_admit_one_another_and_no_exclusive_one(tmp_path: Path) -> None:
    path = tmp_path / "luthier.lock"
    sole = folder_lock.acquire(path, "it", "Wait.", command="a")
    with pytest.raises(Conflict):
        folder_lock.acquire(path, "it", "Wait.", is_shared=True, command="b")
    sole.share()
    second = folder_lock.acquire(path, "it", "Wait.", is_shared=True, command="b")
    with pytest.raises(Conflict, match="in use by process"):
        folder_lock.acquire(path, "it", "Wait.", command="c")
    sole.release()
    with pytest.raises(Conflict):
        folder_lock.acquire(path, "it", "Wait.", command="c")
    second.release()
    folder_lock.acquire(path, "it", "Wait.", command="c").release()
