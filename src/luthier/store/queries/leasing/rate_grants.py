"""Queries on shares of rate limits: what each process may take of one in any 60 s.

Those that write need a transaction of `Database.writing`, in which nobody else's share changes.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from luthier.store.process_schema import process_tables
from luthier.store.queries.leasing import database_clock

_grants = process_tables.rate_grants


@dataclass(frozen=True, slots=True)
class Share:
    """Requests and tokens of one limit."""

    requests: int = 0
    tokens: int = 0


def sum_of_others(tx: Connection, name: str, process: str) -> Share:
    """What all other processes have of the limit of that name now."""
    columns = func.coalesce(func.sum(_grants.c.requests), 0), func.coalesce(func.sum(_grants.c.tokens), 0)
    is_others = _grants.c.name == name, _grants.c.process != process, _grants.c.expires_at > database_clock.now(tx)
    row = tx.execute(select(*columns).where(*is_others)).one()
    return Share(int(row[0]), int(row[1]))


def put(tx: Connection, process: str, shares: Mapping[str, Share], expires_at: datetime) -> None:
    """Writes a process's shares of the limits of these names, in place of those that it had."""
    if not shares:
        return
    tx.execute(delete(_grants).where(_grants.c.process == process, _grants.c.name.in_(shares)))
    values = [
        {"name": name, "process": process, "expires_at": expires_at, "requests": one.requests, "tokens": one.tokens}
        for name, one in shares.items()
    ]
    tx.execute(insert(_grants), values)


def extend(tx: Connection, process: str, expires_at: datetime) -> None:
    """Extends all shares of a process."""
    tx.execute(update(_grants).where(_grants.c.process == process).values(expires_at=expires_at))


def remove(tx: Connection, process: str, names: Collection[str]) -> None:
    """Removes a process's shares of the limits of these names."""
    tx.execute(delete(_grants).where(_grants.c.process == process, _grants.c.name.in_(names)))


def remove_over(tx: Connection) -> None:
    """Removes the shares of processes that have ended: those whose time is over."""
    tx.execute(delete(_grants).where(_grants.c.expires_at <= database_clock.now(tx)))
