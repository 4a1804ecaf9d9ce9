"""The mark of a process: it is held while the process lives, whatever its pid is called elsewhere."""

import subprocess
import sys
import threading
from pathlib import Path

from luthier.process import owner_mark

OWNER = """
import sys
from pathlib import Path
from luthier.process import owner_mark
print(owner_mark.own(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def owner(folder: Path) -> "tuple[subprocess.Popen[str], str]":
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_process_has_ended_once_it_is_killed_and_not_before(tmp_path: Path) -> None:
    process, name = owner(tmp_path / "new")
    with process:
        assert not owner_mark.has_ended(tmp_path / "new", name)
        process.kill()
    assert owner_mark.has_ended(tmp_path / "new", name)
    assert not list((tmp_path / "new").iterdir()), "its mark is gone"
    assert owner_mark.has_ended(tmp_path / "new", name)


def test_own_name_is_the_same_at_each_call_another_one_in_each_folder_and_lives(tmp_path: Path) -> None:
    names = [owner_mark.own(tmp_path), owner_mark.own(tmp_path)]
    assert names[0] == names[1] != owner_mark.own(tmp_path / "other")
    assert not owner_mark.has_ended(tmp_path, names[0])


def test_mark_that_others_look_at_while_it_is_made_is_held_in_the_end(tmp_path: Path) -> None:
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for mark in tmp_path.glob(".alive-*"):
                owner_mark.has_ended(tmp_path, mark.name.removeprefix(".alive-"))

    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in looking:
        thread.start()
    process, name = owner(tmp_path)
    done.set()
    for thread in looking:
        thread.join()
    with process:
        assert (tmp_path / f".alive-{name}").exists()
        assert not owner_mark.has_ended(tmp_path, name)
        process.kill()
