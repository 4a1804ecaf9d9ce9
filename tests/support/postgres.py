"""A PostgreSQL server of the tests' own, from Debian's packages: one for each process of pytest, and a database for
each test, copied from a template.

Its data is in a new folder below the temporary one, its address a Unix socket there. Without fsync: a test of a crash
kills processes, not the machine.
"""

import atexit
import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psycopg
import pytest

from luthier.store import db
from luthier.store.db import Database

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}
_START_S = 60.0
_numbers = itertools.count(1)


def missing() -> str | None:
    """Why there is no server here; None if one can be started."""
    if not _BINARIES:
        return "PostgreSQL is not installed (Debian's package postgresql)"
    if os.getuid() == 0 and not any(user.pw_name == "postgres" for user in pwd.getpwall()):
        return "PostgreSQL refuses root, and there is no user postgres"
    return None


@dataclass
class Server:
    """A server that can be stopped, killed and started again; its data stays until `remove`."""

    folder: Path
    options: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def create(cls, **options: str) -> "Server":
        """Makes a new server and starts it; `options` are settings of postgresql.conf."""
        folder = Path(tempfile.mkdtemp(prefix="luthier-pg-", dir="/tmp"))  # a socket's path has at most 107 characters
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        made = cls(folder, options)
        locale = ("--encoding=UTF8", "--locale=C", "--no-sync", "--auth=trust", "--username=luthier")
        made._run([str(_BINARIES[-1].with_name("initdb")), "-D", str(made.data), *locale])
        made.start()
        return made

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str) -> str:
        """The URL of one of its databases, as LUTHIER_DATABASE_URL takes it."""
        return f"postgresql://luthier@/{database}?host={self.folder}"

    def start(self) -> None:
        """Starts it and waits until it takes connections."""
        settings = {**_OPTIONS, "unix_socket_directories": str(self.folder), **self.options}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        # Whoever kills pytest kills the server too: nothing else would end it.
        follows = ["/usr/bin/setpriv", "--pdeathsig", "INT", "--"]
        self.process = self.begin([*follows, str(_BINARIES[-1]), "-D", str(self.data), *options])
        deadline = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url("postgres")):
                return
            assert self.process.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stops it and waits: SIGINT ends every session, SIGQUIT is a crash of every process of it."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(_START_S)
            self.process = None

    def remove(self) -> None:
        """Stops it and deletes its data."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def execute(self, statement: str) -> None:
        """Executes a statement that must not be in a transaction, in the database `postgres`."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def create_database(self, template: str = "template1") -> str:
        """A new database, a copy of the template; returns its name."""
        name = f"test_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop_database(self, name: str) -> None:
        """Drops a database, and ends who is still connected to it."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, command: list[str]) -> None:
        assert self.begin(command).wait(_START_S) == 0, command

    def begin(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Starts one of PostgreSQL's programs, as its own user where this one is root."""
        owner = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        log = (self.folder / "log").open("ab")
        with log:
            return subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, **owner)  # type: ignore[call-overload,no-any-return]


class Bouncer:
    """Debian's pgbouncer before a server, pooling transactions over very few connections; `close` ends it."""

    def __init__(self, server: Server, connections: int) -> None:
        self.folder, self.server = server.folder, server
        config = self.folder / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n* = host={server.folder} user=luthier\n[pgbouncer]\nauth_type = any\nlisten_addr =\n"
            f"listen_port = 6432\nunix_socket_dir = {server.folder}\npool_mode = transaction\n"
            f"default_pool_size = {connections}\n"
        )
        config.chmod(0o644)
        self._process = server.begin(["/usr/sbin/pgbouncer", str(config)])

    def url(self, database: str) -> str:
        return f"{self.server.url(database)}&port=6432"

    def close(self) -> None:
        self._process.kill()
        self._process.wait(_START_S)


@cache
def shared() -> Server:
    """The server of this process's tests, started at the first call. Skips the test where there is none."""
    if (reason := missing()) is not None:
        pytest.skip(reason)
    made = Server.create()
    atexit.register(made.remove)
    return made


@cache
def template() -> str:
    """A database of the shared server with the newest schema and no rows: to copy it is faster than to make one."""
    server = shared()
    name = server.create_database()
    db.open_postgres(server.url(name)).close()
    return name


@contextlib.contextmanager
def new_database(*, is_empty: bool = False) -> Iterator[str]:
    """The URL of a database of the shared server for one test: with the newest schema, or without any."""
    server = shared()
    name = server.create_database("template1" if is_empty else template())
    yield server.url(name)
    server.drop_database(name)


def url_of(database: Database) -> str:
    """The URL of an open database of the shared server."""
    with database.reading() as tx:
        return shared().url(tx.exec_driver_sql("SELECT current_database()").scalar_one())
