"""Folders that cannot be written and databases that cannot be read: an error, and nothing lost."""

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import openai
import pytest

from installed import Install, Installation
from luthier import app


def upload_until_refused(service: Installation) -> None:
    while True:
        service.upload(300_000)


def fill(path: Path) -> None:
    """Leaves not a page free on the disk of the file."""
    with path.open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(b"x" * 4096)


def test_full_disk_refuses_in_words_and_keeps_every_acknowledged_file(install: Install, disk: Path) -> None:
    reserve = disk / "reserve"  # what is left beside the last upload that fits may be less than a row needs
    reserve.write_bytes(b"x" * 64 * 1024)
    service = install("data", disk)
    service.start()
    with pytest.raises(openai.InternalServerError, match="Make room") as refused:
        upload_until_refused(service)
    assert refused.value.status_code == 507
    assert len(service.acknowledged) > 10
    filler = disk / "filler"
    fill(filler)
    with pytest.raises(openai.InternalServerError):
        service.upload(300_000)
    service.set_clocks(wall=7200, steady=7200)
    assert service.lost() == []
    service.kill()
    service.start()  # what is stored can be read from a full disk too
    assert service.lost() == []
    filler.unlink()
    reserve.unlink()
    service.upload(1000)
    assert service.lost() == []


def test_disk_that_is_full_at_the_first_start_refuses_in_words(install: Install, disk: Path) -> None:
    (disk / "filler").write_bytes(b"x" * (8 * 2**20 - 40 * 1024))  # the folder and its lock fit, a database does not
    assert "Make room" in install("data", disk).refusal()
    (disk / "filler").unlink()
    app.build(install("data", disk).settings()).lock.release()


def test_read_only_folder_is_refused_in_words_and_nothing_is_lost(
    install: Install, disk: Path, remount: Callable[[str], None]
) -> None:
    service = install("data", disk)
    service.start()
    service.upload()
    service.stop()
    remount("ro")
    assert "luthier.lock: Read-only file system" in service.refused()
    assert "Read-only file system" in install("new", disk).refusal()
    assert "cannot be used" in install("data2", LUTHIER_BLOBS_URL=(disk / "data" / "blobs").as_uri()).refusal()
    remount("rw")
    service.start()
    assert service.lost() == []


def test_database_of_a_newer_version_or_damaged_is_refused_in_words(install: Install) -> None:
    service = install()
    app.build(service.settings()).lock.release()
    database = service.data / "luthier.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    assert "newer version of Luthier" in service.refusal()
    database.write_bytes(b"no database at all" * 1000)
    assert "cannot be used as the database" in service.refusal()
