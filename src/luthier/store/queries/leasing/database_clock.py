"""The database's own clock, by which leases expire: one clock for all processes, whatever their machines say."""

from datetime import datetime

from sqlalchemy import Connection

from luthier.store.schema import from_microseconds

_NOW = {
    "sqlite": "SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)",
}
"""Microseconds since 1970, by dialect. SQLite's is the machine's clock, to a millisecond."""


def now(tx: Connection) -> datetime:
    """The database's time now, aware; not that of the transaction's beginning."""
    time = from_microseconds(int(tx.exec_driver_sql(_NOW[tx.dialect.name]).scalar_one()))
    assert time is not None
    return time
