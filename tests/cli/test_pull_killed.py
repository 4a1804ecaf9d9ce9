"""A real pull that is killed: no half of a model under its name, and the next pull ends as if nothing had been."""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tiny
from luthier import catalog
from luthier.catalog import FolderSource
from luthier.cli.base_models.pull import BeingPulledByAnother, pull

CODE = """
import sys
from pathlib import Path
from luthier import catalog
from luthier.catalog import FolderSource
from luthier.cli.base_models.pull import pull
entry = catalog.load().entries["smollm2-135m-instruct"]
source = FolderSource(kind="folder", path=Path(sys.argv[1]))
pull(entry.model_copy(update={"name": "tiny", "source": source}), Path(sys.argv[2]))
"""
LIMIT_S = 300.0


def test_pull_killed_while_weights_are_prepared_leaves_nothing_under_its_name_and_the_next_one_ends(
    tmp_path: Path,
) -> None:
    source, models = tiny.base_folder(tmp_path / "made") / "hf", tmp_path / "models"
    killed = subprocess.Popen([sys.executable, "-c", CODE, str(source), str(models)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + LIMIT_S
    while not (models / ".tiny.tmp" / ".source.tmp").exists():
        assert killed.poll() is None, "the pull ended before its weights were prepared"
        assert time.monotonic() < deadline
        time.sleep(0.01)  # another process's file: there is no clock to drive
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert [path.name for path in models.iterdir()] == [".tiny.tmp"]

    embedded = catalog.load().entries["smollm2-135m-instruct"]
    entry = embedded.model_copy(update={"name": "tiny", "source": FolderSource(kind="folder", path=source)})
    with pytest.raises(BeingPulledByAnother, match="being pulled by another process"):
        pull(entry, models)  # the killed pull's child is still at its work
    folder = None
    while folder is None:
        assert time.monotonic() < deadline
        with contextlib.suppress(BeingPulledByAnother):
            folder = pull(entry, models)
    assert {path.name for path in folder.iterdir()} == {"hf", "base-f16.gguf", "probes.json", "prepared.json"}
    assert [path.name for path in models.iterdir()] == ["tiny"]
