"""The SQLite database of a data folder: read and write transactions, a cache of query results that every commit
invalidates, and migration to the newest schema.
"""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import NullPool

from luthier.core.errors import NoSpace, Unavailable
from luthier.store import row_mapping
from luthier.store.databases import revisions
from luthier.store.write_queue import QueueTimeout, WriteQueue

BUSY_TIMEOUT_MS = 30_000
"""The timeout for SQLite's write lock, which another process may hold, and for the queue of this one's writers."""

T = TypeVar("T")


class SqliteDatabase:
    """One database file, opened once a process by `app.py` or `data_folder.py`; safe to use from many threads.

    SQLite in WAL mode: readers never wait, and writers queue. Nothing is opened before the first transaction. The
    methods are those of `db.Database`.
    """

    def __init__(self, path: Path) -> None:
        """Makes the connection pools; neither opens nor creates the file at `path`."""
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
        """The result of `query`, from a cache by `name` that any commit of any process invalidates; None is not cached.

        On a miss it runs `query` in a read transaction of its own. For what every request reads and hardly anything
        changes: the principal of a key.
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
        """The cached result of the name if nothing was committed since; None if there is none. Runs no query, takes
        microseconds, and empties the cache where a commit has invalidated it.
        """
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
        """SQLite's data_version as seen by a connection that never writes, opened here on first use. The caller must
        hold `_version_lock`.
        """
        if self._version_reader is None:
            self._version_reader = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        (version,) = self._version_reader.execute("PRAGMA data_version").fetchone()
        return int(version)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent snapshot to read from; what is written in it is rolled back at its end.

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
    def description(self) -> str:
        """The database in words for an operator: the path of its file."""
        return str(self.path)

    @property
    def waiting_writers(self) -> int:
        """How many write transactions of this process wait for their turn now; the supervisor yields to them."""
        return self._writers.waiting

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its start, so what it reads stays valid until it writes. Commits
        at the end of the block, and rolls back if the block raises.

        Writers of this process queue in FIFO order: SQLite itself would let each sleep and poll, and under load some
        would starve. Raises NoSpace if the disk is full and Unavailable if the lock is not free in time, both for the
        caller's user.
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
        """Migrates the schema to the newest revision, in one write transaction, and logs it; does nothing if it is
        there. Raises Conflict, and changes nothing, for a database of a newer version; Unavailable for a file that
        cannot be used.
        """
        try:
            with self.writing() as connection:
                revisions.migrate(connection, self.description)
        except DatabaseError as error:
            raise _unusable(self.path, error) from error

    def is_newest(self) -> bool:
        """Whether the schema is at this version's newest revision; False for an older, a newer and an empty database.
        Raises Unavailable if the file is not a database.
        """
        try:
            with self.reading() as connection:
                return revisions.is_newest(connection)
        except DatabaseError as error:
            raise _unusable(self.path, error) from error

    def close(self) -> None:
        """Closes the pools and the idle connections; the caller has ended its transactions. Idempotent."""
        self.engine.dispose()
        while self._idle:
            self._idle.pop().close()
        with self._version_lock:
            if self._version_reader is not None:
                self._version_reader.close()
                self._version_reader = None


def _busy() -> Unavailable:
    """The error of a writer that waited BUSY_TIMEOUT_MS in vain: the caller may try again."""
    return Unavailable("database_busy", "The database has too many writes at this moment. Try again.")


def _prepare_connection(connection: Any, _record: object) -> None:
    """SQLAlchemy's "connect" event: sets the PRAGMAs of each new SQLite connection (WAL, fsync at each commit, foreign
    keys, lock timeout), and leaves BEGIN to `_begin`.
    """
    # pysqlite would begin transactions implicitly; `_begin` does it explicitly (SQLAlchemy, "SQLite" dialect).
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    """SQLAlchemy's "begin" event: BEGIN IMMEDIATE, which takes the write lock, for `Database.writing`; BEGIN for
    others.
    """
    writes = connection.get_execution_options().get("luthier_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _unusable(path: Path, error: DatabaseError) -> Unavailable:
    """The error for the operator where SQLite cannot use the file; it holds the driver's own message."""
    text = f"{path} cannot be used as the database: {error.orig}. Check disk and permissions, or restore a backup."
    return Unavailable("database_unusable", text)
