"""A folder that several processes make: the first one's stays, whole, and whoever is late disturbs nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from luthier.service.context import Context
from luthier.service.models import whole_folders


def filled(text: str, folder: Path) -> None:
    (folder / "a").write_text(text)
    (folder / "b").write_text(text)


def test_process_that_was_paused_while_it_wrote_leaves_the_next_ones_folder_alone(context: Context) -> None:
    folder = context.runs_folder / "one"

    def fill(empty: Path) -> None:
        (empty / "a").write_text("former")
        # Another process, for which ours has not ended.
        folder.mkdir()
        filled("next", folder)
        (empty / "b").write_text("former")

    whole_folders.make(context, folder, fill)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "next", "b": "next"}
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


def test_folder_that_cannot_be_filled_is_not_there(context: Context) -> None:
    folder = context.runs_folder / "one"

    def fail(empty: Path) -> None:
        (empty / "a").write_text("half")
        raise FileNotFoundError("a blob")

    with pytest.raises(FileNotFoundError, match="a blob"):
        whole_folders.make(context, folder, fail)
    assert list(context.runs_folder.iterdir()) == []


KILLED = """
import os, sys
from pathlib import Path
from luthier.process import owner_mark
name = owner_mark.own(Path(sys.argv[1]))
unfinished = Path(sys.argv[2], f".one.{name}.tmp")
unfinished.mkdir(parents=True)
print(unfinished, flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_makes_is_not(context: Context) -> None:
    arguments = [sys.executable, "-c", KILLED, str(context.served_folder), str(context.runs_folder)]
    with (
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as living,
    ):
        assert killed.stdout is not None
        assert living.stdout is not None
        gone, kept = Path(killed.stdout.readline().strip()), Path(living.stdout.readline().strip())
        killed.kill()
        killed.wait()
        whole_folders.make(context, context.runs_folder / "one", lambda empty: filled("x", empty))
        assert (gone.exists(), kept.exists()) == (False, True)
        left = kept.with_name(kept.name.replace("one", "another"))  # nobody makes it again
        left.mkdir()
        whole_folders.remove_leftovers(context)
        assert left.exists()
        living.kill()
        living.wait()
        whole_folders.remove_leftovers(context)
        assert [left.exists(), kept.exists()] == [False, False]
