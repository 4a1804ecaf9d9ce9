"""The address of a PostgreSQL database: its URL read, its connections made, and what of it may be shown."""

from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import conninfo

from luthier.core.errors import InvalidRequest

_DEFAULTS: dict[str, str | int] = {
    "application_name": "luthier",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""libpq's settings unless the URL has them. Units are libpq's: seconds, `tcp_user_timeout` milliseconds. A server that
vanishes without a word is noticed after 10 to 25 s."""
PREPARE_AFTER = 5
"""After so many executions of a statement psycopg has the server prepare it."""


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """A database's URL, which may hold a password."""

    url: str = field(repr=False)

    @classmethod
    def of_url(cls, url: str) -> "PostgresAddress":
        """Reads the URL as libpq does, several hosts included. Raises InvalidRequest, without a part of it in the
        text.
        """
        try:
            conninfo.conninfo_to_dict(url)
        except psycopg.Error:
            text = (
                "LUTHIER_DATABASE_URL or LUTHIER_DATABASE_DIRECT_URL cannot be read. It has the form "
                "postgresql://USER:PASSWORD@HOST:PORT/NAME, with special characters of the password as %XX."
            )
            raise InvalidRequest("invalid_database_url", text) from None
        return cls(url)

    @property
    def description(self) -> str:
        """Host, port and name of the database, for messages."""
        parts = conninfo.conninfo_to_dict(self.url)
        host, name = parts.get("host") or "this machine", parts.get("dbname") or parts.get("user") or ""
        return f"The PostgreSQL database {name} at {host}" + (f":{parts['port']}" if parts.get("port") else "")

    def connect(self) -> psycopg.Connection:
        """A new connection in autocommit: whoever uses it begins and ends transactions. Raises psycopg's errors."""
        given = conninfo.conninfo_to_dict(self.url)
        defaults: dict[str, Any] = {name: value for name, value in _DEFAULTS.items() if name not in given}
        connection = psycopg.connect(self.url, autocommit=True, prepare_threshold=PREPARE_AFTER, **defaults)
        if is_pooled(connection):
            connection.prepare_threshold = None  # the next transaction may be in another session
        return connection


def is_pooled(connection: psycopg.Connection) -> bool:
    """Whether a pooler such as pgbouncer is in between: the server's process is then not the one of the greeting."""
    row = connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    return row is None or row[0] != connection.info.backend_pid
