"""Modes in the data folder: private, whatever they were before."""

import stat
from pathlib import Path

from luthier.process import private_folder
from luthier.store import db


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_open_files_are_restricted_and_the_folder_is_reported(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    elsewhere = tmp_path / "elsewhere"
    files = ["luthier.db", "luthier.db-wal", "luthier.db-shm", "api-key", "audit.jsonl", "audit.jsonl.1", "rates.json"]
    folders = ["blobs", "runs", "engines", "moving", "models", "somebody's", "elsewhere"]
    for name in files:
        (data / name).touch()
        (data / name).chmod(0o666)
    for folder in [data, elsewhere, *(data / name for name in folders[:-1])]:
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
    (data / "served").symlink_to(elsewhere)
    linked, told = private_folder.restrict(data)
    assert linked == f"{data / 'served'} is open to other users: it links to {elsewhere}, which has mode 0755."
    assert "mode 0755" in told
    assert f"chmod 700 {data}" in told
    assert {mode(data / name) for name in files} == {0o600}
    assert {mode(data / name) for name in folders[:4]} == {0o700}
    assert {mode(path) for path in (data / "models", data / "somebody's", elsewhere)} == {0o755}
    data.chmod(0o700)
    elsewhere.chmod(0o700)
    assert private_folder.restrict(data) == []


def test_database_and_its_side_files_are_private(tmp_path: Path) -> None:
    database = db.open_database(tmp_path / "luthier.db")
    with database.reading():
        found = {path.name: mode(path) for path in tmp_path.glob("luthier.db*")}
    database.close()
    assert found == dict.fromkeys(("luthier.db", "luthier.db-wal", "luthier.db-shm"), 0o600)
