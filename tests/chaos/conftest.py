"""Installations of a test's own, and a file system of its own that can be full or read-only."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from installed import Install, Installation


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Install]:
    """Makes an installation by name, and ends every one at the end."""
    made: list[Installation] = []
    (tmp_path / "models").mkdir()

    def new(name: str = "one", folder: Path = tmp_path, **environment: str) -> Installation:
        models = {"LUTHIER_MODELS_DIR": str(tmp_path / "models")}
        made.append(Installation(folder / name, tmp_path, models | environment))
        return made[-1]

    yield new
    for installation in made:
        installation.close()


Mounted = Callable[[str], None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of eight mebibytes."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system of its own")
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def remount(disk: Path) -> Mounted:
    """Mounts the disk again as `ro` or `rw`."""

    def mount(mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)

    return mount
