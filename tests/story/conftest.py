"""Fixtures of the stories: the running service and its client."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from repository import ROOT
from running import Running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("story") / "data", base_folder.parent)
    running.data.mkdir()
    running.start()
    yield running
    running.close()


@pytest.fixture(scope="session")
def openai_0_28() -> Path:
    """A folder with openai 0.28.1 and what it needs, beside the newest one of the environment."""
    folder = ROOT / ".cache" / "openai-0.28.1"
    if not (folder / "openai").exists():
        pytest.skip(f"openai 0.28.1 is not at {folder}: run `make old-sdk`")
    return folder
