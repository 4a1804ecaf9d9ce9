"""The exclusive lock on a folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.core.errors import Conflict
from luthier.process import folder_lock

HOLDS = """
import sys, time
from pathlib import Path
from luthier.process import folder_lock
lock = folder_lock.acquire(Path(sys.argv[1]), "The folder", "Wait.")
print("held", flush=True)
time.sleep(60)
"""


def test_lock_names_its_holder_and_is_free_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(
        Conflict, match=rf"The folder is in use by process {holder.pid} on host .*, since 20.*\. Wait\."
    ):
        folder_lock.acquire(path, "The folder", "Wait.")
    holder.kill()
    holder.wait()
    holder.stdout.close()
    folder_lock.acquire(path, "The folder", "Wait.").release()


def test_lock_is_exclusive_within_a_process_and_describes_an_address_later(tmp_path: Path) -> None:
    lock = folder_lock.acquire(tmp_path / "lock", "The folder", "Wait.", command="a long one " * 20)
    lock.describe(address="http://127.0.0.1:8000", command="short")
    with pytest.raises(Conflict, match=rf"process {os.getpid()} .*, at http://127\.0\.0\.1:8000\. Wait\."):
        folder_lock.acquire(tmp_path / "lock", "The folder", "Wait.")
    lock.release()
    lock.release()
    folder_lock.acquire(tmp_path / "lock", "The folder", "Wait.").release()


def test_lock_is_not_kept_by_a_child_that_outlives_its_holder(tmp_path: Path) -> None:
    lock = folder_lock.acquire(tmp_path / "lock", "The folder", "Wait.")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    lock.release()
    folder_lock.acquire(tmp_path / "lock", "The folder", "Wait.").release()
    child.communicate(b"\n")


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b"\xff", b'{"pid": "x", "host": 1, "since": 2}'])
def test_holder_without_a_description_is_another_process(tmp_path: Path, text: bytes) -> None:
    lock = folder_lock.acquire(tmp_path / "lock", "The folder", "Wait.")
    (tmp_path / "lock").write_bytes(text)
    with pytest.raises(Conflict, match="in use by another process"):
        folder_lock.acquire(tmp_path / "lock", "The folder", "Wait.")
    lock.release()
