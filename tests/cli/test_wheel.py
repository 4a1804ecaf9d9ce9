"""The wheel holds the whole package: installed without the source tree, it answers and finds its data."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from repository import ROOT

pytestmark = pytest.mark.nightly  # builds with a backend that pip fetches


def test_wheel_holds_every_file_of_the_package_and_runs_from_elsewhere(tmp_path: Path) -> None:
    build = ["pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run([sys.executable, "-m", *build], check=True)
    [wheel] = tmp_path.glob("luthier-*.whl")
    listed = subprocess.run(["git", "ls-files", "src/luthier"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = {name.removeprefix("src/") for name in listed.stdout.splitlines()}
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {Path(name).suffix for name in tracked} >= {".toml", ".jinja", ".cpp", ".h", ".jsonl"}
    assert tracked <= packed
    assert all(name in tracked or ".dist-info/" in name for name in packed)

    installed = tmp_path / "installed"
    install = ["pip", "install", "-q", "--no-deps", "--target", str(installed), str(wheel)]
    subprocess.run([sys.executable, "-m", *install], check=True)
    code = (
        "import luthier, luthier.catalog as catalog; from luthier.examples import guide; from pathlib import Path\n"
        "print(luthier.__file__); print(*catalog.load(None, Path('models')).entries); print(guide.TRAINING.exists())"
    )
    environment = {"PYTHONPATH": str(installed), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    path, models, rows_exist = done.stdout.splitlines()
    assert path.startswith(str(installed))
    assert "smollm2-135m-instruct" in models
    assert rows_exist == "True"
