"""A number that changes with each commit to a PostgreSQL database, kept by a thread that is told of commits by NOTIFY
and asks for their count besides.
"""

import logging
import os
import select
import threading
import time
from collections.abc import Callable

import psycopg

from luthier.store.databases.postgres_address import is_pooled

logger = logging.getLogger(__name__)

CHANNEL = "luthier_commits"
POLL_S = 0.5
"""How often the count is read, whether a NOTIFY came or not: a pooler of transactions swallows LISTEN silently."""
LEASE_S = 2.0
"""For how long an answer of the server vouches that no commit was missed: its connection may be cut in silence."""
CLOSE_S = 1.0
"""How long `close` waits for the thread."""
_COUNT = "SELECT number FROM commit_counter"


class CommitWatch:
    """Counts commits of all processes, for the caches of this one.

    While the server does not answer, every look gives a new number: nothing that was cached is valid then.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection]) -> None:
        """Starts nothing: the first look does. `connect` opens a connection in autocommit, without a pooler."""
        self._connect = connect
        self._guard = threading.Lock()
        self._number = 0
        self._seen = -1
        self._valid_until = 0.0
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._wake_end, self._wake = os.pipe()

    def number(self) -> int:
        """A number that changes with each commit; takes microseconds and never waits for the server."""
        with self._guard:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="commit-watch", daemon=True)
                self._thread.start()
            if time.monotonic() > self._valid_until:
                self._number += 1
            return self._number

    def count_own(self, count: int | None) -> None:
        """Tells of a commit of this process, after which the server's count is `count`; None if it is not known."""
        with self._guard:
            self._number += 1
            if count == self._seen + 1:
                self._seen = count  # else another process has committed too, and the thread finds that

    def close(self) -> None:
        """Ends the thread; every later look gives a new number. Idempotent."""
        with self._guard:
            if self._is_closed:
                return
            self._is_closed = True
            self._valid_until = 0.0
        os.write(self._wake, b"x")
        if self._thread is not None:
            self._thread.join(CLOSE_S)
            if self._thread.is_alive():  # it waits for a server that is away, and ends with the process at the latest
                return
        os.close(self._wake)
        os.close(self._wake_end)

    def _run(self) -> None:
        """The thread: connects, listens, and begins anew, with nothing valid meanwhile, when the connection is lost."""
        is_logged = False
        while not self._is_closed:
            try:
                with self._connect() as connection:
                    if is_pooled(connection):
                        logger.warning("commits watched by a poll only: set LUTHIER_DATABASE_DIRECT_URL for NOTIFY")
                    connection.execute(f"LISTEN {CHANNEL}")
                    self._follow(connection)
            except psycopg.Error as error:
                if not is_logged and not self._is_closed:
                    logger.warning("commits not watched, nothing is cached sqlstate=%s", error.sqlstate)
                is_logged = True
            else:
                is_logged = False
            with self._guard:
                self._valid_until = 0.0
            self._waited(None)

    def _follow(self, connection: psycopg.Connection) -> None:
        """Reads the count at once, at each NOTIFY and every POLL_S seconds, until the watch is closed."""
        connection.add_notify_handler(lambda _: None)  # it only wakes: the count tells
        while not self._is_closed:
            asked_at = time.monotonic()
            row = connection.execute(_COUNT).fetchone()
            with self._guard:
                count = -1 if row is None else int(row[0])
                if count != self._seen:
                    self._seen = count
                    self._number += 1
                if not self._is_closed:
                    self._valid_until = asked_at + LEASE_S
            self._waited(connection)

    def _waited(self, connection: psycopg.Connection | None) -> None:
        """Waits POLL_S seconds, or until the connection has something or the watch is closed."""
        poll = select.poll()  # select() takes no descriptor above 1023, and a service has thousands
        poll.register(self._wake_end, select.POLLIN)
        if connection is not None:
            poll.register(connection.fileno(), select.POLLIN)
        poll.poll(POLL_S * 1000)
