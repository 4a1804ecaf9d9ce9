"""Installations that share a store, and databases with another one's blobs: no file is lost."""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from installed import Install, Installation


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def backed_up(service: Installation, copy: Path) -> None:
    with (
        closing(sqlite3.connect(service.data / "luthier.db")) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)


def put_database(service: Installation, copy: Path | None) -> None:
    """Puts a copy in the place of the database of a service that is stopped, or nothing at all."""
    for suffix in ("", "-wal", "-shm"):
        service.data.joinpath(f"luthier.db{suffix}").unlink(missing_ok=True)
    if copy is not None:
        shutil.copy(copy, service.data / "luthier.db")


def test_two_installations_and_foreign_files_share_a_store(install: Install, tmp_path: Path) -> None:
    store = tmp_path / "bucket"
    for name in ("files/report.pdf", f"files/file-{1:032x}", "files/half#1", "other/thing"):
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_bytes(b"foreign")
    foreign = files_below(store)
    both = [install(name, LUTHIER_BLOBS_URL=store.as_uri()) for name in ("one", "two")]
    for service in both:
        service.start()
    for service in both:
        for _ in range(3):
            service.upload()
    for service in both:
        service.pass_hours(2)
    assert [service.lost() for service in both] == [[], []]
    assert foreign.items() <= files_below(store).items()
    assert not list(store.rglob("lost-and-found"))


def test_database_and_bytes_that_do_not_belong_together_are_refused(install: Install) -> None:
    service = install()
    blobs, marker = service.data / "blobs", service.data / "blobs" / "luthier-installation.json"
    service.start()
    service.upload()
    backed_up(service, service.data.with_name("copy.db"))
    service.stop()
    before = files_below(blobs)

    put_database(service, None)
    said = service.refusal()
    assert "belongs to the installation" in said
    assert "luthier storage adopt" in said
    marker.unlink()  # as a version without markers left it
    put_database(service, None)
    assert "without a row in the database" in service.refusal()

    put_database(service, service.data.with_name("copy.db"))
    assert "lacks luthier-installation.json" in service.refusal()
    blobs.rename(service.data / "away")
    assert "not mounted" in service.refusal()
    blobs.rmdir()
    (service.data / "away").rename(blobs)
    assert files_below(blobs).keys() == before.keys() - {marker.name}

    assert "belongs to installation" in service.command("storage", "adopt", "--yes")
    service.start()
    service.pass_hours(2)
    assert service.lost() == []


def test_restored_older_database_costs_no_file_and_the_newest_finds_all_again(install: Install) -> None:
    service = install()
    service.start()
    old, newest = service.data.with_name("old.db"), service.data.with_name("newest.db")
    kept = service.upload()
    backed_up(service, old)
    younger = {service.upload() for _ in range(3)}
    service.pass_hours(1)  # a minute would do: until then the copy counts as up to date
    service.stop()
    backed_up(service, newest)
    put_database(service, old)

    service.start()
    assert "database is older than the stored files" in service.log.read_text()
    service.pass_hours(2)
    everything = {f"files/{id}" for id in {kept, *younger}}
    assert everything <= files_below(service.data / "blobs").keys()
    service.stop()
    service.command("storage", "adopt", "--yes")
    service.start()
    service.pass_hours(2)
    assert len(service.command("storage", "list").splitlines()) == len(younger)
    assert set(service.lost()) == younger
    service.stop()

    put_database(service, newest)
    service.start()
    service.pass_hours(1)
    assert service.lost() == []
    assert service.command("storage", "list") == ""


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
def test_installations_through_kills_backups_and_restores_lose_nothing(
    install: Install, tmp_path: Path, seed: int
) -> None:
    """Whatever is done in whatever order: a file that the newest database knows is whole, and a foreign one untouched.

    With an older database in place nothing new is uploaded; the newest comes back before the next turn.
    """
    chance = random.Random(seed)
    store = tmp_path / "bucket"
    (store / "files").mkdir(parents=True)
    (store / "files" / "foreign").write_bytes(b"foreign")
    both = [install(name, LUTHIER_BLOBS_URL=store.as_uri()) for name in ("one", "two")]
    for service in both:
        service.start()
        service.upload()
        backed_up(service, service.data.with_name(f"{service.data.name}-old.db"))
    for _ in range(15):
        service = chance.choice(both)
        old, newest = (service.data.with_name(f"{service.data.name}-{age}.db") for age in ("old", "newest"))
        match chance.choice(("upload", "hours", "kill", "backup", "restore", "jump")):
            case "upload":
                for _ in range(10):
                    service.upload(chance.randrange(100, 100_000))
            case "hours":
                service.pass_hours(chance.randrange(1, 4))
            case "kill":
                service.kill()
                service.start()
            case "backup":
                backed_up(service, old)
            case "jump":
                day = chance.choice((-86400, 86400))
                service.pass_hours(2, jump=day)
                service.pass_hours(2, jump=-day)
            case "restore":
                service.stop()
                backed_up(service, newest)
                put_database(service, old)
                if chance.random() < 0.5:
                    service.command("storage", "adopt", "--yes")
                service.start()
                service.pass_hours(chance.randrange(1, 4))
                service.stop()
                put_database(service, newest)
                service.start()
                service.pass_hours(1)
        assert [service.lost() for service in both] == [[], []]
    assert (store / "files" / "foreign").read_bytes() == b"foreign"
