"""The database: one engine, read and write transactions, and migration to the newest schema."""

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import NullPool

from luthier.core.errors import Conflict, NoSpace, Unavailable
from luthier.store import row_mapping
from luthier.store.write_queue import QueueTimeout, WriteQueue

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 30_000
"""The timeout for SQLite's write lock, which another process may hold, and for the queue of this one's writers."""
_MIGRATIONS = Path(__file__).with_name("migrations")

T = TypeVar("T")


class Database:
    """Opens transactions. SQLite in WAL mode: readers never wait, writers queue."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self.engine = create_engine(self.url, hide_parameters=True)  # of a row: no error shows them
        event.listen(self.engine, "connect", _prepare_connection)
        event.listen(self.engine, "begin", _begin)
        self._readers = create_engine(self.url, poolclass=NullPool, hide_parameters=True)
        event.listen(self._readers, "connect", _prepare_connection)
        self._idle: deque[Connection] = deque()  # append and pop are atomic
        self._writers = WriteQueue()
        self.path = path
        self._cache: dict[Hashable, Any] = {}
        self._cached_version = -1
        self._version_reader: sqlite3.Connection | None = None
        self._version_lock = threading.Lock()

    def cached(self, name: Hashable, query: Callable[[Connection], T | None]) -> T | None:
        """The result of a query from a cache that any commit of any process invalidates; None is not cached.

        For what every request reads and hardly anything changes: the principal of a key.
        """
        result: T | None = self.peek(name)
        if result is not None:
            return result
        version = self._cached_version  # any commit from here on invalidates the result
        with self.reading() as tx:
            result = query(tx)
        with self._version_lock:
            if result is not None and version == self._cached_version:
                self._cache[name] = result
        return result

    def peek(self, name: Hashable) -> Any:
        """The valid cached result of the name; None if there is none. Takes microseconds."""
        with self._version_lock:
            version = self._version()
            if version != self._cached_version:
                self._cache.clear()
                self._cached_version = version
            return self._cache.get(name)

    def version(self) -> int:
        """A number that changes with each commit of any process. Takes microseconds."""
        with self._version_lock:
            return self._version()

    def _version(self) -> int:
        if self._version_reader is None:
            self._version_reader = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        (version,) = self._version_reader.execute("PRAGMA data_version").fetchone()
        return int(version)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent snapshot to read from.

        Its connection is reused by the next reader, and the driver begins and ends the transaction: SQLAlchemy's pool,
        BEGIN and ROLLBACK take longer than the lookup of a row.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._readers.connect()
            connection.begin()  # only SQLAlchemy's own state; nothing is sent
        driver = row_mapping.driver(connection)
        driver.execute("BEGIN")
        try:
            yield connection
        finally:
            driver.rollback()
            self._idle.append(connection)

    @property
    def waiting_writers(self) -> int:
        """How many write transactions are waiting now."""
        return self._writers.waiting

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its start, so what it reads stays valid until it writes.

        Writers of this process queue in FIFO order: SQLite itself would let each sleep and poll, and under load some
        would starve. Raises NoSpace if the disk is full and Unavailable if the lock is not free in time; the
        transaction is then rolled back.
        """
        try:
            with (
                self._writers.held(BUSY_TIMEOUT_MS / 1000),
                self.engine.connect() as connected,
                connected.execution_options(luthier_writes=True) as connection,
                connection.begin(),
            ):
                yield connection
        except QueueTimeout as error:
            raise _busy() from error
        except OperationalError as error:
            if "disk is full" in str(error.orig):
                text = "The disk of the database is full. Make room on it and try again."
                raise NoSpace("disk_full", text) from error
            if "database is locked" in str(error.orig):
                raise _busy() from error
            raise

    def migrate(self) -> None:
        """Migrates the schema to the newest revision. Raises Conflict for a database of a newer version."""
        with self.writing() as connection:
            if not _is_newest(connection):
                config = _config()
                _check_known(connection, self.path)
                config.attributes["connection"] = connection
                before = MigrationContext.configure(connection).get_current_revision()
                command.upgrade(config, "head")
                _log_migration(before, MigrationContext.configure(connection).get_current_revision())

    def is_newest(self) -> bool:
        """Whether the schema is at the newest revision. Raises Unavailable if the file is not a database."""
        try:
            with self.reading() as connection:
                return _is_newest(connection)
        except DatabaseError as error:
            raise _unusable(self.path, error) from error

    def close(self) -> None:
        self.engine.dispose()
        while self._idle:
            self._idle.pop().close()
        with self._version_lock:
            if self._version_reader is not None:
                self._version_reader.close()
                self._version_reader = None


def _busy() -> Unavailable:
    return Unavailable("database_busy", "The database has too many writes at this moment. Try again.")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


@cache
def _scripts() -> ScriptDirectory:
    """The migrations of this version, read once a process."""
    return ScriptDirectory.from_config(_config())


def _is_newest(connection: Connection) -> bool:
    return MigrationContext.configure(connection).get_current_revision() == _scripts().get_current_head()


def _check_known(connection: Connection, path: Path) -> None:
    revision = MigrationContext.configure(connection).get_current_revision()
    revisions = {script.revision for script in _scripts().walk_revisions()}
    if revision is not None and revision not in revisions:
        text = f"{path} is of a newer version of Luthier (schema {revision:.20}). Install that one. Nothing is changed."
        raise Conflict("newer_database", text)


def _log_migration(before: str | None, now: str | None) -> None:
    """A migration cannot be undone, so its time is in the log; not for a new database."""
    if before is not None:
        logger.info("database migrated from=%s to=%s", before, now)


def _prepare_connection(connection: Any, _record: object) -> None:
    # pysqlite would begin transactions implicitly; `_begin` does it explicitly (SQLAlchemy, "SQLite" dialect).
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("luthier_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def open_database(path: Path) -> Database:
    """Opens the database file; creates it and its schema if needed.

    Raises Conflict for one of a newer version, NoSpace, and Unavailable for one that cannot be read or written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)  # SQLite gives its WAL and shared-memory files the same mode
    database = Database(path)
    try:
        database.migrate()
    except DatabaseError as error:
        database.close()
        raise _unusable(path, error) from error
    return database


def _unusable(path: Path, error: DatabaseError) -> Unavailable:
    text = f"{path} cannot be used as the database: {error.orig}. Check disk and permissions, or restore a backup."
    return Unavailable("database_unusable", text)


__all__ = ["Connection", "Database", "open_database"]
