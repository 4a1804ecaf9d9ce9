"""Where an installation has its blobs, and which stores it refuses."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from luthier import blobs
from luthier.core.errors import Conflict
from luthier.core.models import File, Resource
from luthier.core.states import FilePurpose, FileStatus
from luthier.service.background import installation
from luthier.service.background.installation import MARKER, StoreLocation
from luthier.store import db
from luthier.store.db import Database
from luthier.store.queries import files, resources

NOW = datetime(2026, 11, 28, tzinfo=UTC)


@pytest.fixture
def databases(tmp_path: Path) -> Iterator[list[Database]]:
    """Two installations' databases; the first knows the file `mine`."""
    made: list[Database] = [db.open_database(tmp_path / f"{name}.db") for name in ("one", "two")]
    with made[0].writing() as tx:
        resources.insert_resource(tx, Resource("r", "s", "g", "a"), NOW)
        status = FileStatus.PROCESSED
        files.insert_file(tx, File("mine", "r", "a.txt", FilePurpose.USER_DATA, 1, "", status, None, NOW))
    yield made
    for database in made:
        database.close()


def place(folder: Path, *, is_shared: bool) -> StoreLocation:
    return StoreLocation(blobs.local(folder), "The store", is_shared=is_shared)


def keys(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_own_folder_is_used_from_its_root_and_a_shared_store_below_a_prefix(
    databases: list[Database], tmp_path: Path
) -> None:
    own = installation.claim(databases[0], place(tmp_path / "own", is_shared=False), NOW)
    assert own.blob_prefix == ""
    store = place(tmp_path / "shared", is_shared=True)
    other = installation.claim(databases[1], store, NOW)
    assert other.blob_prefix == f"luthier-{other.id}"
    assert keys(tmp_path / "shared") == {f"luthier-{other.id}/{MARKER}"}
    assert installation.claim(databases[1], store, NOW) == other
    assert own.id != other.id


@pytest.mark.parametrize("is_shared", [True, False])
def test_shared_store_with_our_blobs_at_its_root_stays_like_that(
    databases: list[Database], tmp_path: Path, is_shared: bool
) -> None:
    store = place(tmp_path / "store", is_shared=is_shared)
    store.store.put("files/mine", [b"x"])
    store.store.put("files/theirs", [b"x"])
    assert installation.claim(databases[0], store, NOW).blob_prefix == ""
    if is_shared:  # another that comes to the same bucket keeps beside it
        assert str(installation.claim(databases[1], store, NOW).blob_prefix).startswith("luthier-")
    else:
        with pytest.raises(Conflict, match="The store belongs to the installation"):
            installation.claim(databases[1], store, NOW)
    assert {"files/mine", "files/theirs", MARKER} <= keys(tmp_path / "store")


def test_first_of_two_installations_at_one_root_claims_it(databases: list[Database], tmp_path: Path) -> None:
    store = place(tmp_path / "store", is_shared=True)
    store.store.put("files/mine", [b"x"])
    (tmp_path / "store" / MARKER).write_text(json.dumps({"format": 1, "id": "other", "created": "2026", "age": 3}))
    with pytest.raises(Conflict, match="belongs to the installation other, created 2026"):
        installation.claim(databases[0], store, NOW)


def test_claim_interrupted_by_a_crash_is_completed(databases: list[Database], tmp_path: Path) -> None:
    """The marker is there, the database does not know yet."""
    store = place(tmp_path / "store", is_shared=False)
    store.store.put("files/unknown", [b"x"])
    own = installation.get(databases[1])
    (tmp_path / "store" / MARKER).write_text(json.dumps({"format": 1, "id": own.id, "created": "2026", "age": 0}))
    assert installation.claim(databases[1], store, NOW).blob_prefix == ""


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        (b"", "is damaged"),
        (b"[]", "is damaged"),
        (b'{"format": 2, "id": "x", "created": "", "age": 0}', "newer version of Luthier"),
    ],
)
def test_unreadable_marker_is_refused_with_a_sentence(
    databases: list[Database], tmp_path: Path, marker: bytes, words: str
) -> None:
    store = place(tmp_path / "store", is_shared=False)
    installation.claim(databases[0], store, NOW)
    (tmp_path / "store" / MARKER).write_bytes(marker)
    with pytest.raises(Conflict, match=words):
        installation.claim(databases[0], store, NOW)
