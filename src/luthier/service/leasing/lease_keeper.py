"""Keeps a lease: takes it, renews it in a thread, and says so if another process has taken over.

That nothing is written after that is not left to this thread, which may have been paused: `store.fencing` and the
fenced ports beside this module ask the lease's row itself.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from luthier.core.errors import LuthierError, NoSpace
from luthier.process import process_identity
from luthier.store.db import Database
from luthier.store.queries.leasing import database_clock, leases
from luthier.store.queries.leasing.leases import Held, Lease

logger = logging.getLogger(__name__)

SUPERVISOR = "supervisor"
"""The lease of whoever moves jobs, keeps house and sends what is to be sent."""
PROCESS_PREFIX = "process/"
"""Each process has a lease of its own, its heartbeat: this and the process's id are its name."""
KEPT_FOR = timedelta(days=1)
"""How long the lease of a process that has ended is kept."""
_NOT_WRITTEN = 0
"""The token of a lease that waits to be written; those in rows begin at 1."""
RENEWALS = 3
"""How often a lease is renewed within its time: two renewals may fail before another process may take it."""


def take(database: Database, name: str, holder: str, ttl_s: float, is_alone: bool = False) -> Lease | None:
    """Takes a lease, as `process_identity` names the holder; None if another process holds it.

    The lease of a process that has surely ended is free at once, any other one when its time is over. Whoever
    `is_alone`, by a lock that all of them need, knows that every other process has ended: on a full disk it goes on
    with the last holder's lease, so that what is stored can be read. Raises NoSpace otherwise.
    """
    held = look(database, name)
    has_ended = held is not None and (is_alone or process_identity.has_ended(held.lease.holder))
    gone = held.lease.holder if held is not None and has_ended else None
    if held is not None and gone is None and not held.is_over:
        return None  # without a write transaction: whoever waits for a lease asks every second
    try:
        with database.writing() as tx:
            lease = leases.take(tx, name, holder, timedelta(seconds=ttl_s), gone)
    except NoSpace:
        if held is None or not is_alone:
            raise
        return held.lease
    if lease is not None and held is not None and not is_alone:  # else it is just the next start
        logger.info("lease taken name=%s token=%d after=%s", name, lease.token, held.lease.holder)
    return lease


def take_of_process(database: Database, name: str, ttl_s: float, may_wait: bool) -> Lease:
    """Takes the lease that tells others of this process, whose name nobody else has. With `may_wait` a full disk is no
    error: its keeper writes it once there is room.
    """
    holder = process_identity.new_name()
    try:
        forget_processes(database)
        lease = take(database, PROCESS_PREFIX + name, holder, ttl_s)
    except NoSpace:
        if not may_wait:
            raise
        return Lease(PROCESS_PREFIX + name, holder, _NOT_WRITTEN)
    assert lease is not None
    return lease


def forget_processes(database: Database) -> None:
    """Deletes the leases of processes that ended long ago: their names are never used again."""
    with database.writing() as tx:
        leases.delete_over(tx, PROCESS_PREFIX, database_clock.now(tx) - KEPT_FOR)


def look(database: Database, name: str) -> Held | None:
    """The lease's row as it is now."""
    with database.reading() as tx:
        return leases.get(tx, name)


@dataclass(slots=True)
class LeaseKeeper:
    """Renews a lease in a thread from `start` to `stop`. `lost` is called in it, once, after another's take-over.

    A database that is busy or full is asked again: until somebody takes the lease over, its holder keeps it.
    """

    database: Database
    lease: Lease
    ttl_s: float
    lost: Callable[[], None]
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread, a daemon."""
        self._thread = threading.Thread(target=self._run, name=f"lease-{self.lease.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and the lease, so that the next process need not wait. Raises nothing for a full disk."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        try:
            with self.database.writing() as tx:
                leases.release(tx, self.lease)
        except LuthierError as error:
            logger.warning("lease not released name=%s code=%s: it ends by itself", self.lease.name, error.code)

    def renew(self) -> bool:
        """Extends the lease now, or writes it if that was not possible yet; False if another process has it."""
        with self.database.writing() as tx:
            if self.lease.token == _NOT_WRITTEN:
                taken = leases.take(tx, self.lease.name, self.lease.holder, timedelta(seconds=self.ttl_s))
                self.lease = taken or self.lease
                return taken is not None
            return leases.renew(tx, self.lease, timedelta(seconds=self.ttl_s))

    def _run(self) -> None:
        """The thread's loop."""
        while not self._ended.wait(self.ttl_s / RENEWALS):
            try:
                is_ours = self.renew()
            except LuthierError as error:
                logger.error("lease not renewed name=%s code=%s", self.lease.name, error.code)
                continue
            if not is_ours:
                logger.critical("lease lost name=%s token=%d: another process does its work", *self._words())
                self.lost()
                return

    def _words(self) -> tuple[str, int]:
        return self.lease.name, self.lease.token
