"""A pull's work folder: one process at a time, whole under its name or not there, wherever it is killed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.cli.base_models.work_folder import BeingPulled, WorkFolder

SCRIPT = Path(__file__).with_name("work_folder_crashes.py")


def test_work_folder_that_is_held_refuses_a_second_and_leaves_the_first_alone(tmp_path: Path) -> None:
    path = tmp_path / ".m.tmp"
    with WorkFolder(path) as first:
        (first.path / "a").write_text("1")
        with pytest.raises(BeingPulled), WorkFolder(path):
            pass
        assert (path / "a").read_text() == "1"
    assert list(tmp_path.iterdir()) == []


def test_work_folder_is_empty_whatever_a_killed_process_left_in_it(tmp_path: Path) -> None:
    path = tmp_path / ".m.tmp"
    (path / "hf").mkdir(parents=True)
    (path / "hf" / "half").write_text("1")
    (path / "link").symlink_to(tmp_path)
    with WorkFolder(path) as work:
        assert list(work.path.iterdir()) == []
    assert tmp_path.exists()


def test_work_folder_whose_process_is_gone_is_held_as_long_as_a_child_of_it_lives(tmp_path: Path) -> None:
    path = tmp_path / ".m.tmp"
    code = "import sys; print(1, flush=True); sys.stdin.read()"
    with WorkFolder(path) as work:
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(work.descriptor,)
        )
        assert child.stdout is not None
        child.stdout.readline()
        # As after a kill: our own end is closed, and nothing is cleared away.
        path.rename(tmp_path / "kept")
    (tmp_path / "kept").rename(path)
    with pytest.raises(BeingPulled), WorkFolder(path):
        pass
    child.communicate(b"")
    with WorkFolder(path):
        pass


def test_work_folder_killed_at_any_effect_leaves_the_old_folder_or_the_new_whole_and_the_next_one_ends(
    tmp_path: Path,
) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, check=True)
    outcome = json.loads(done.stdout)
    assert outcome["effects"] > 15
    assert outcome["wrong"] == []
