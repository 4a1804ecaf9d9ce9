"""The database of a lease's holder: each write transaction first checks that nobody else has taken the lease.

The check is in the transaction of the write itself: a process that was paused, and wakes after another one has taken
over, writes nothing, however long it thought that it still held the lease.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from luthier.core.errors import LeaseLost
from luthier.store.db import Connection, Database
from luthier.store.queries.leasing import leases
from luthier.store.queries.leasing.leases import Lease

T = TypeVar("T")


class FencedDatabase(Database):
    """Another database's interface over the same connections; only `writing` differs."""

    def __init__(self, database: Database, lease: Lease) -> None:
        """Opens nothing, and has no connections of its own: every method is the other's."""
        self._database = database
        self._lease = lease

    def check(self) -> None:
        """Raises LeaseLost if somebody else has taken the lease: for what is done outside of the database."""
        with self._database.reading() as tx:
            self._check(tx)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """As `Database.writing`. Raises LeaseLost, and writes nothing, once somebody else has taken the lease."""
        with self._database.writing() as tx:
            self._check(tx)
            yield tx

    def cached(self, name: Hashable, query: Callable[[Connection], T | None]) -> T | None:
        return self._database.cached(name, query)

    def peek(self, name: Hashable) -> Any:
        return self._database.peek(name)

    def version(self) -> int:
        return self._database.version()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._database.reading() as tx:
            yield tx

    @property
    def waiting_writers(self) -> int:
        return self._database.waiting_writers

    @property
    def path(self) -> Path | None:
        return self._database.path

    @property
    def description(self) -> str:
        return self._database.description

    def migrate(self) -> None:
        self._database.migrate()

    def is_newest(self) -> bool:
        return self._database.is_newest()

    def close(self) -> None:
        self._database.close()

    def _check(self, tx: Connection) -> None:
        if not leases.is_current(tx, self._lease):
            raise lost(self._lease.name)


def lost(name: str) -> LeaseLost:
    """The error of a process that is no longer the holder."""
    return LeaseLost("lease_lost", f"Another process has taken over the lease {name!r}: this one must write no more.")
