"""The database as everything above `store` knows it: one type, which SQLite and PostgreSQL implement, and how each of
the two is opened.
"""

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import Connection

from luthier.core.errors import Unsupported
from luthier.store.databases.revisions import has_revision
from luthier.store.databases.sqlite_database import SqliteDatabase

if TYPE_CHECKING:  # psycopg is an extra
    from luthier.store.databases.postgres_database import PostgresDatabase

T = TypeVar("T")


class Database(Protocol):
    """A database, opened once a process by `app.py` or `data_folder.py`; safe to use from many threads.

    Every method may raise Unavailable, if the database cannot be reached or is too busy, and `writing` NoSpace. A
    wrapper of one delegates what it does not change.
    """

    @property
    def path(self) -> Path | None:
        """The file of a SQLite database; None for one on a server."""

    @property
    def description(self) -> str:
        """The database in words for an operator, without credentials."""

    @property
    def waiting_writers(self) -> int:
        """How many write transactions of this process wait for their turn now; the supervisor yields to them."""

    def cached(self, name: Hashable, query: Callable[[Connection], T | None]) -> T | None:
        """The result of `query`, from a cache by `name` that any commit of any process invalidates; None is not cached.

        On a miss it runs `query` in a read transaction of its own. For what every request reads and hardly anything
        changes: the principal of a key.
        """

    def peek(self, name: Hashable) -> Any:
        """The cached result of the name if nothing was committed since; None if there is none. Runs no query, takes
        microseconds.
        """

    def version(self) -> int:
        """A number that changes with each commit of any process. Takes microseconds, and never waits for a server."""

    def reading(self) -> AbstractContextManager[Connection]:
        """A consistent snapshot to read from; nothing is written in it."""

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction of the only writer: what it reads stays valid until it writes, whatever other processes do.
        Commits at the end of the block, and rolls back if the block raises.

        Raises NoSpace if the disk is full and Unavailable if its turn does not come in time, both for the caller's
        user.
        """

    def migrate(self) -> None:
        """Migrates the schema to the newest revision, in one write transaction; does nothing if it is there. Raises
        Conflict, and changes nothing, for a database of a newer version.
        """

    def is_newest(self) -> bool:
        """Whether the schema is at this version's newest revision; False for an older, a newer and an empty one."""

    def close(self) -> None:
        """Closes all connections; the caller has ended its transactions. Idempotent."""


def open_database(path: Path) -> SqliteDatabase:
    """Opens the database file, and creates it (mode 0600, its folder 0700) and its schema if needed, else migrates it.

    Raises for the operator: Conflict for one of a newer version, NoSpace, Unavailable for one that cannot be read or
    written, and OSError if the file cannot be created.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)  # SQLite gives its WAL and shared-memory files the same mode
    database = SqliteDatabase(path)
    with ExitStack() as undone:
        undone.callback(database.close)
        database.migrate()
        undone.pop_all()
    return database


def connect_postgres(url: str, direct_url: str | None = None) -> "PostgresDatabase":
    """A PostgreSQL database by its URL; no connection is made yet. `direct_url` reaches the same database without a
    pooler such as pgbouncer, if `url` names one.

    Raises for the operator: InvalidRequest, without a part of a URL in its text, for one that cannot be read, and
    Unsupported if psycopg is not installed.
    """
    try:
        from luthier.store.databases import postgres_database
    except ModuleNotFoundError as error:
        text = f"LUTHIER_DATABASE_URL needs {error.name}, which is not installed. Run: pip install 'luthier[postgres]'"
        raise Unsupported("postgres_not_installed", text) from error
    return postgres_database.PostgresDatabase(url, direct_url)


def open_postgres(url: str, direct_url: str | None = None) -> "PostgresDatabase":
    """As `connect_postgres`; creates the schema in an empty database, else migrates it. Of processes that start at
    once, one does so.

    Raises for the operator: Conflict for a database of a newer version or with another program's tables, NoSpace, and
    Unavailable for one that cannot be reached or used.
    """
    database = connect_postgres(url, direct_url)
    with ExitStack() as undone:
        undone.callback(database.close)
        database.migrate()
        undone.pop_all()
    return database


def copy_all(source: Connection, target: Connection, description: str) -> Mapping[str, int]:
    """Copies every row of a SQLite database into an empty PostgreSQL one: see `databases.table_copies`."""
    from luthier.store.databases import table_copies

    return table_copies.copy_all(source, target, description)


__all__ = ["Connection", "Database", "SqliteDatabase", "copy_all", "has_revision", "open_database", "open_postgres"]
