"""The databases that tests run on: a SQLite file in the test's own folder, or one of the tests' PostgreSQL server."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path

import postgres
from luthier.store import db
from luthier.store.db import Database

KINDS = ("sqlite", "postgres")
VARIABLE = "LUTHIER_TEST_DATABASE"
"""What every test runs on that names no kind itself; SQLite if it is not set."""


def default_kind() -> str:
    kind = os.environ.get(VARIABLE, "sqlite")
    assert kind in KINDS, f"{VARIABLE} is one of {KINDS}"
    return kind


@contextmanager
def opened(kind: str, path: Path, template: Path) -> Iterator[Database]:
    """A database with the newest schema and no rows, closed at the end; `path` and `template` are SQLite's files."""
    if kind == "sqlite":
        shutil.copy(template, path)
        database: Database = db.open_database(path)
        yield database
        database.close()
        return
    with postgres.new_database() as url:
        database = db.open_postgres(url)
        yield database
        database.close()


@contextmanager
def opened_again(database: Database) -> Iterator[Database]:
    """The same database opened once more, as another process would, closed at the end."""
    second: Database
    if database.path is not None:
        second = db.SqliteDatabase(database.path)
    else:
        second = db.connect_postgres(postgres.url_of(database))
    yield second
    second.close()


def wait_until(is_so: Callable[[], bool], within_s: float = 30) -> None:
    """Waits until the condition holds; fails the test if it does not in time."""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)


def wait_until_longer(values: Sized, than: int) -> None:
    """Waits until a list that other threads append to has more than so many values."""
    wait_until(lambda: len(values) > than)


def wait_until_cached(database: Database) -> None:
    """Waits until the database's cache works: PostgreSQL's does once its watch is connected."""
    wait_until(lambda: database.version() == database.version())


@contextmanager
def empty_place(kind: str, folder: Path) -> Iterator[str]:
    """Where a database can be made: the path of a file that is not there yet, or the URL of an empty database."""
    if kind == "sqlite":
        yield str(folder / "new.db")
        return
    with postgres.new_database(is_empty=True) as url:
        yield url


@contextmanager
def at_place(kind: str, place: str) -> Iterator[Database]:
    """The database at such a place, neither made nor migrated, closed at the end."""
    database: Database = db.SqliteDatabase(Path(place)) if kind == "sqlite" else db.connect_postgres(place)
    yield database
    database.close()
