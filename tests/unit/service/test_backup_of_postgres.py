"""A backup where the rows are in PostgreSQL: the bytes that they refer to, and no rows."""

from pathlib import Path

import pytest

import received
from luthier.core.models import Principal
from luthier.service.background import installation
from luthier.service.background.installation import StoreLocation
from luthier.service.backups import backup, backup_archive
from luthier.service.backups.backup import Wanted
from luthier.service.context import Context
from luthier.service.files import files


@pytest.fixture
def database_kind() -> str:
    return "postgres"


def test_backup_has_the_bytes_and_says_that_it_has_no_rows(context: Context, caller: Principal, tmp_path: Path) -> None:
    installation.claim(context.database, StoreLocation(context.blobs, "The store", is_shared=False), context.now())
    blob = received.blob(context, [b"abc"])
    id = files.create(context, caller.resource.id, "a.txt", "user_data", blob).id
    path = tmp_path / "backup.tar"
    manifest = backup.create(context, Wanted(context.data_folder / "blobs"), path, lambda total: lambda count: None)
    assert not manifest.has_database
    names = {entry.path for entry in manifest.files}
    assert {f"blobs/files/{id}", "blobs/luthier-installation.json", "api-key"} <= names
    assert not any(name.startswith("luthier.db") for name in names)
    restored = tmp_path / "restored"
    assert not backup.restore(path, restored, lambda total: lambda count: None).has_database
    assert (restored / "blobs" / "files" / id).read_bytes() == b"abc"
    assert backup_archive.read_manifest(path) == manifest
