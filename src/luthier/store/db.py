"""The database: one engine, transactions for reading and for writing, and migration to the newest schema."""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from luthier.core.errors import NoSpace
from luthier.store import rows

BUSY_TIMEOUT_MS = 30_000
_MIGRATIONS = Path(__file__).with_name("migrations")

T = TypeVar("T")


class Database:
    """Hands out transactions. SQLite in WAL mode: readers never wait, writers queue behind one another."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self.engine = create_engine(self.url)
        event.listen(self.engine, "connect", _prepare_connection)
        event.listen(self.engine, "begin", _begin)
        self._readers = create_engine(self.url, poolclass=NullPool)
        event.listen(self._readers, "connect", _prepare_connection)
        self._idle: deque[Connection] = deque()  # append and pop are atomic
        self.path = path
        self._kept: dict[Hashable, Any] = {}
        self._kept_at = -1
        self._watch: sqlite3.Connection | None = None
        self._watching = threading.Lock()

    def remembered(self, name: Hashable, query: Callable[[Connection], T | None]) -> T | None:
        """What a query gives, asked again only once anything has been committed, by whatever process; None never kept.

        For what every request asks and hardly anything changes: who a key opens for.
        """
        found: T | None = self.recalled(name)
        if found is not None:
            return found
        version = self._kept_at  # what is committed from here on makes the answer be forgotten, if it was needed or not
        with self.reading() as tx:
            found = query(tx)
        with self._watching:
            if found is not None and version == self._kept_at:
                self._kept[name] = found
        return found

    def recalled(self, name: Hashable) -> Any:
        """What is remembered under the name, and holds still; None if nothing. Takes microseconds."""
        with self._watching:
            if self._watch is None:
                self._watch = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
            (version,) = self._watch.execute("PRAGMA data_version").fetchone()
            if version != self._kept_at:
                self._kept.clear()
                self._kept_at = version
            return self._kept.get(name)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent snapshot to read from.

        Its connection is kept open for the next reader, and the driver begins and ends the transaction: SQLAlchemy's
        own way through pool, BEGIN and ROLLBACK takes longer than finding a row.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._readers.connect()
            connection.begin()  # SQLAlchemy takes it for begun from here on; nothing is sent
        driver = rows.driver(connection)
        driver.execute("BEGIN")
        try:
            yield connection
        finally:
            driver.rollback()
            self._idle.append(connection)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its start, so what it read still holds when it writes.

        Raises NoSpace where the disk is full; nothing of the transaction is kept then.
        """
        try:
            with self.engine.connect() as connection:
                connection = connection.execution_options(luthier_writes=True)
                with connection.begin():
                    yield connection
        except OperationalError as error:
            if "disk is full" not in str(error.orig):
                raise
            raise NoSpace("disk_full", "The disk of the database is full. Make room on it and ask again.") from error

    def migrate(self) -> None:
        """Brings the schema to the newest revision; does next to nothing where it is there already."""
        config = _config()
        with self.writing() as connection:
            if not _is_newest(connection, config):
                config.attributes["connection"] = connection
                command.upgrade(config, "head")

    def is_newest(self) -> bool:
        """Whether the schema is the one that these queries are written for."""
        with self.reading() as connection:
            return _is_newest(connection, _config())

    def close(self) -> None:
        self.engine.dispose()
        while self._idle:
            self._idle.pop().close()
        with self._watching:
            if self._watch is not None:
                self._watch.close()
                self._watch = None


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def _is_newest(connection: Connection, config: Config) -> bool:
    head = ScriptDirectory.from_config(config).get_current_head()
    return MigrationContext.configure(connection).get_current_revision() == head


def _prepare_connection(connection: Any, _record: object) -> None:
    # pysqlite would begin transactions at its own discretion; `_begin` does it at ours (SQLAlchemy, "SQLite" dialect).
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("luthier_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def make(path: Path) -> Database:
    """Opens the database file, creating it and its schema where needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    database = Database(path)
    database.migrate()
    return database


__all__ = ["Connection", "Database", "make"]
