"""Queries on engine hosts: who answers for models, and where."""

from sqlalchemy import Connection, bindparam, delete, insert, select

from luthier.core.inference.engine_hosts import EngineHost
from luthier.store.process_schema import process_tables
from luthier.store.queries.leasing import database_clock

_hosts = process_tables.engine_hosts
_leases = process_tables.leases


def put(tx: Connection, host: EngineHost) -> None:
    """Writes a host, whose lease is that of its process, in place of an earlier one at its URL."""
    tx.execute(delete(_hosts).where(_hosts.c.url == host.url))
    tx.execute(insert(_hosts).values(url=host.url, process=host.process, weight=host.weight))


def remove(tx: Connection, process: str) -> None:
    """Removes the host of that process: nothing more is asked of it."""
    tx.execute(delete(_hosts).where(_hosts.c.process == process))


def list_living(tx: Connection) -> list[EngineHost]:
    """The hosts whose process's lease has not run out by the database's clock, by URL."""
    query = (
        select(_hosts.c.url, _hosts.c.process, _hosts.c.weight)
        .join(_leases, _leases.c.name == _hosts.c.process)
        .where(_leases.c.expires_at > bindparam("now", type_=_leases.c.expires_at.type))
        .order_by(_hosts.c.url)
    )
    return [EngineHost(*row) for row in tx.execute(query, {"now": database_clock.now(tx)})]
