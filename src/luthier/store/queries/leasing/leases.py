"""Queries on leases: who holds one, until when, and with which fencing token.

Those that write need a transaction of `Database.writing`, in which nobody else takes the lease.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, bindparam, delete, insert, select, update

from luthier.store.process_schema import process_tables
from luthier.store.queries.leasing import database_clock
from luthier.store.row_mapping import Read

_leases = process_tables.leases
_current = Read(
    select(_leases.c.token).where(
        _leases.c.name == bindparam("name"),
        _leases.c.holder == bindparam("holder"),
        _leases.c.token == bindparam("token"),
    ),
    int,
)


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as its holder has it. `token` is the fencing token: whoever takes over has a greater one."""

    name: str
    holder: str
    token: int


@dataclass(frozen=True, slots=True)
class Held:
    """A lease's row: the last holder, and whether its time is over by the database's clock."""

    lease: Lease
    expires_at: datetime
    is_over: bool


def get(tx: Connection, name: str) -> Held | None:
    """The row of that name; None if nobody ever held the lease."""
    row = tx.execute(select(_leases).where(_leases.c.name == name)).mappings().first()
    if row is None:
        return None
    expires_at: datetime = row["expires_at"]
    return Held(Lease(name, row["holder"], row["token"]), expires_at, expires_at <= database_clock.now(tx))


def take(tx: Connection, name: str, holder: str, ttl: timedelta, gone: str | None = None) -> Lease | None:
    """Takes the lease for `ttl` if it is free; None, and nothing written, if somebody else holds it.

    It is free if nobody ever held it, its time is over, or its holder is `gone`, which the caller knows to have ended.
    """
    held, expires_at = get(tx, name), database_clock.now(tx) + ttl
    if held is None:
        tx.execute(insert(_leases).values(name=name, holder=holder, token=1, expires_at=expires_at))
        return Lease(name, holder, 1)
    if not held.is_over and held.lease.holder not in {holder, gone}:
        return None
    token = held.lease.token + 1
    values = {"holder": holder, "token": token, "expires_at": expires_at}
    tx.execute(update(_leases).where(_leases.c.name == name).values(values))
    return Lease(name, holder, token)


def renew(tx: Connection, lease: Lease, ttl: timedelta) -> bool:
    """Extends a lease to `ttl` from now, also one whose time is over; False if somebody else has taken it since."""
    values = {"expires_at": database_clock.now(tx) + ttl}
    return tx.execute(update(_leases).where(*_is_of(lease)).values(values)).rowcount == 1


def release(tx: Connection, lease: Lease) -> None:
    """Ends a lease now, its token kept; does nothing if somebody else has taken it since."""
    tx.execute(update(_leases).where(*_is_of(lease)).values(expires_at=database_clock.now(tx)))


def is_current(tx: Connection, lease: Lease) -> bool:
    """Whether nobody has taken the lease since; its time may be over. Asked in each transaction of the holder."""
    return _current.first(tx, name=lease.name, holder=lease.holder, token=lease.token) is not None


def list_prefixed(tx: Connection, prefix: str) -> list[Held]:
    """The rows whose names begin so, whether their time is over or not."""
    now = database_clock.now(tx)
    rows = tx.execute(select(_leases).where(_leases.c.name.startswith(prefix, autoescape=True))).mappings()
    return [
        Held(Lease(row["name"], row["holder"], row["token"]), row["expires_at"], row["expires_at"] <= now)
        for row in rows
    ]


def delete_over(tx: Connection, prefix: str, before: datetime) -> int:
    """Deletes rows of such names that expired before that time; only of names that nobody takes again."""
    condition = _leases.c.name.startswith(prefix, autoescape=True), _leases.c.expires_at < before
    return tx.execute(delete(_leases).where(*condition)).rowcount


def _is_of(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    columns = _leases.c
    return columns.name == lease.name, columns.token == lease.token, columns.holder == lease.holder
