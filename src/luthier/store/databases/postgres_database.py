"""A PostgreSQL database: read and write transactions, a cache of query results that every commit invalidates, and
migration to the newest schema.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from luthier.core.errors import Unavailable
from luthier.store.databases import postgres_errors, revisions
from luthier.store.databases.commit_watch import CHANNEL, CommitWatch
from luthier.store.databases.postgres_address import PostgresAddress
from luthier.store.write_queue import QueueTimeout, WriteQueue

BUSY_TIMEOUT_S = 30.0
"""The timeout for the lock of writers, which another process may hold, for the queue of this one's writers, and for a
free connection to read by."""
PAUSE_S = 30
"""After so many seconds without a statement the server ends a write transaction: a process that was stopped in one
would hold up every other."""
MAX_READERS = 32
"""Connections that read at once; one more writes, and one watches."""
_WRITERS_LOCK = 0x6C757468  # "luth"
_BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_BEGIN_WRITE = (  # one round trip; what the transaction reads later is newer than the lock
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '{lock_s}s'; "
    "SET LOCAL idle_in_transaction_session_timeout = '{pause_s}s'; SELECT pg_advisory_xact_lock({lock})"
)
_COMMIT = (  # counts only a transaction that wrote something, as SQLite's data_version does
    "WITH counted AS (UPDATE commit_counter SET number = number + 1 "
    "WHERE pg_current_xact_id_if_assigned() IS NOT NULL RETURNING number) "
    f"SELECT number, pg_notify('{CHANNEL}', '') FROM counted; COMMIT"
)

T = TypeVar("T")


class PostgresDatabase:
    """One database of a server, opened once a process by `app.py` or `data_folder.py`; safe to use from many threads.

    Readers never wait for writers. Writers of all processes queue for one advisory lock, which each transaction holds
    to its end: fine behind a pooler of transactions. Connections are kept, and made anew when the server has gone and
    come back. Nothing is opened before the first transaction. The methods are those of `db.Database`.
    """

    path: Path | None = None

    def __init__(self, url: str, direct_url: str | None = None) -> None:
        """Reads the URLs: InvalidRequest for one that cannot be read. `direct_url` is for what no pooler can do."""
        address = PostgresAddress.of_url(url)
        direct = address if direct_url is None else PostgresAddress.of_url(direct_url)
        self.description = address.description
        self._engine = create_engine(
            "postgresql+psycopg://",
            creator=address.connect,
            poolclass=NullPool,
            hide_parameters=True,  # of a row: no error shows them
            use_native_hstore=False,
        )
        self._idle: deque[Connection] = deque()  # append and pop are atomic
        self._readers = threading.BoundedSemaphore(MAX_READERS)
        self._writers = WriteQueue()
        self._watch = CommitWatch(direct.connect)
        self._cache: dict[Hashable, Any] = {}
        self._cached_version = -1
        self._cache_guard = threading.Lock()

    def cached(self, name: Hashable, query: Callable[[Connection], T | None]) -> T | None:
        """The result of `query`, from a cache by `name` that any commit of any process invalidates; None is not cached.

        On a miss it runs `query` in a read transaction of its own.
        """
        result: T | None = self.peek(name)
        if result is not None:
            return result
        version = self._cached_version  # any commit that is noticed from here on invalidates the result
        with self.reading() as tx:
            result = query(tx)
        with self._cache_guard:
            if result is not None and version == self._cached_version:
                self._cache[name] = result
        return result

    def peek(self, name: Hashable) -> Any:
        """The cached result of the name if no commit was noticed since; None if there is none. Runs no query."""
        with self._cache_guard:
            version = self._watch.number()
            if version != self._cached_version:
                self._cache.clear()
                self._cached_version = version
            return self._cache.get(name)

    def version(self) -> int:
        """A number that changes with each commit of any process that is noticed, and at each look while none can be.
        Takes microseconds.
        """
        return self._watch.number()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent snapshot to read from (REPEATABLE READ, READ ONLY): a write in it is refused."""
        if not self._readers.acquire(timeout=BUSY_TIMEOUT_S):
            raise postgres_errors.busy()
        try:
            with postgres_errors.translated():
                connection = self._begun(_BEGIN_READ)
                try:
                    yield connection
                finally:
                    self._give_back(connection)
        finally:
            self._readers.release()

    @property
    def waiting_writers(self) -> int:
        """How many write transactions of this process wait for their turn now, those at the server not counted."""
        return self._writers.waiting

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that holds the lock of writers from its start, so what it reads stays valid until it writes.
        Commits at the end of the block, and rolls back if the block raises.

        Writers of this process queue in FIFO order, then for the lock with those of others. Raises NoSpace if the disk
        is full; Unavailable if the lock is not free in time, and if the server is lost: whether a commit was then done
        is not known.
        """
        try:
            with self._writers.held(BUSY_TIMEOUT_S), postgres_errors.translated():
                begin = _BEGIN_WRITE.format(lock_s=round(BUSY_TIMEOUT_S), pause_s=PAUSE_S, lock=_WRITERS_LOCK)
                connection = self._begun(begin)
                try:
                    yield connection
                    self._commit(connection)
                except (psycopg.Error, DBAPIError) as error:
                    if postgres_errors.is_of_standby(error):  # after a failover: the next one looks for the primary
                        self._drop(connection)
                    raise
                finally:
                    self._give_back(connection)
        except QueueTimeout as error:
            raise postgres_errors.busy() from error

    def migrate(self) -> None:
        """Creates the schema in an empty database, else migrates it to the newest revision, in one write transaction,
        and logs it; does nothing if it is there. Raises Conflict, and changes nothing, for a database of a newer
        version or with another program's tables; Unavailable for one that cannot be used.
        """
        with self._usable(), self.writing() as connection:
            revisions.migrate(connection, self.description)

    def is_newest(self) -> bool:
        """Whether the schema is at this version's newest revision; False for an older, a newer and an empty database.
        Raises Unavailable if the database cannot be used.
        """
        with self._usable(), self.reading() as connection:
            return revisions.is_newest(connection)

    def close(self) -> None:
        """Closes the connections that are kept, and ends the watch; the caller has ended its transactions.
        Idempotent.
        """
        self._watch.close()
        while self._idle:
            self._idle.pop().close()

    def _begun(self, begin: str) -> Connection:
        """A connection in a transaction that `begin` has begun. Drops those that the server has ended meanwhile."""
        while True:
            try:
                connection, is_new = self._idle.pop(), False
            except IndexError:
                connection, is_new = self._engine.connect(), True
                connection.begin()  # only SQLAlchemy's own state; nothing is sent
            try:
                _driver(connection).execute(begin, prepare=False)  # several statements, which cannot be prepared
            except psycopg.Error as error:
                is_dead = isinstance(error, psycopg.OperationalError) and _is_broken(connection)
                self._give_back(connection)
                if is_new or not is_dead:
                    raise
            else:
                return connection

    def _commit(self, connection: Connection) -> None:
        """Commits, and tells the caches of this process at once; also if the outcome is not known."""
        try:
            counted = _driver(connection).execute(_COMMIT, prepare=False).fetchone()
        except psycopg.Error:
            self._watch.count_own(None)
            raise
        if counted is not None:
            self._watch.count_own(int(counted[0]))

    def _give_back(self, connection: Connection) -> None:
        """Ends the transaction if it is open, and keeps the connection unless it is broken."""
        if not _is_broken(connection):
            with suppress(psycopg.Error):
                _driver(connection).rollback()
                self._idle.append(connection)
                return
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        """Closes a connection for good. Idempotent."""
        with suppress(psycopg.Error, DBAPIError):
            if not connection.closed:
                connection.invalidate()
                connection.close()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Adds what the server says, in words for the operator, to the error of a database that cannot be used."""
        try:
            yield
        except Unavailable as error:
            if error.code != "database_unavailable":
                raise
            raise self._unusable(error.__cause__) from error
        except (psycopg.Error, DBAPIError) as error:
            raise self._unusable(error) from error

    def _unusable(self, error: BaseException | None) -> Unavailable:
        """The error for the operator: it holds the driver's own message, which has no password."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        words = " ".join(str(cause).split())
        text = f"{self.description} cannot be used: {words:.300}. Check LUTHIER_DATABASE_URL and the server."
        return Unavailable("database_unusable", text)


def _driver(connection: Connection) -> psycopg.Connection[tuple[Any, ...]]:
    """psycopg's own connection below one of SQLAlchemy's."""
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _is_broken(connection: Connection) -> bool:
    """Whether the connection to the server is closed or lost."""
    return connection.closed or connection.invalidated or _driver(connection).closed
