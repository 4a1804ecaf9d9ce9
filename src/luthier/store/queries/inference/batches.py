"""Queries on batches. `move` is the only function that writes the status of an existing one, and it does so only from
the states that its caller allows. Those that write need a transaction of `Database.writing`.
"""

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from luthier.core.inference.batches import Batch, BatchCounts, BatchFault
from luthier.core.states import TERMINAL_BATCH_STATUSES, BatchStatus
from luthier.core.webhooks.webhook_events import BATCH_EVENTS
from luthier.store import row_mapping, schema
from luthier.store.inference_schema import batches as _batches
from luthier.store.queries.webhooks import outbox

_columns = [column for column in _batches.c if column.name != "seq"]
_COUNTS = tuple(asdict(BatchCounts()))
_is_open = _batches.c.status.not_in(sorted(TERMINAL_BATCH_STATUSES))


def insert_batch(tx: Connection, batch: Batch) -> None:
    """Inserts the row. IntegrityError for an id that has one already is an internal fault."""
    values = asdict(batch)
    tx.execute(insert(_batches).values(**values.pop("counts"), **values))


def get(tx: Connection, resource_id: str, batch_id: str) -> Batch | None:
    """The batch, whatever its status; None if the resource has no such batch."""
    statement = select(*_columns).where(_batches.c.id == batch_id, _batches.c.resource_id == resource_id)
    row = tx.execute(statement).mappings().first()
    return None if row is None else _batch(row)


def list_page(tx: Connection, resource_id: str, after: str | None, limit: int) -> tuple[list[Batch], bool]:
    """A page of the resource's batches, newest first, and whether more follow. Raises InvalidRequest, the caller's 400,
    if `after` is not a batch of the resource.
    """
    scope = _batches.c.resource_id == resource_id
    rows, more = row_mapping.page(tx, select(*_columns), _batches, scope, after, limit)
    return [_batch(row) for row in rows], more


def list_open(tx: Connection) -> list[Batch]:
    """The batches of all resources that have not ended, oldest first; none of a resource that was deleted."""
    lives = select(schema.resources.c.id).where(schema.resources.c.deleted_at.is_(None))
    statement = select(*_columns).where(_is_open, _batches.c.resource_id.in_(lives)).order_by(_batches.c.seq)
    return [_batch(row) for row in tx.execute(statement).mappings()]


def count_open(tx: Connection, resource_id: str) -> int:
    """How many batches of the resource have not ended."""
    statement = select(func.count()).select_from(_batches).where(_is_open, _batches.c.resource_id == resource_id)
    return int(tx.execute(statement).scalar_one())


def move(tx: Connection, batch_id: str, sources: Collection[BatchStatus], status: BatchStatus, **values: Any) -> bool:
    """Writes the status, and further columns by name, if the batch is in one of the `sources`; False, and nothing is
    written, if it is not, or is gone. A last status comes with its time, and its webhook event is put into the outbox
    in the same transaction.
    """
    found = (_batches.c.id == batch_id) & _batches.c.status.in_([str(source) for source in sources])
    if tx.execute(update(_batches).where(found).values(status=status, **values)).rowcount != 1:
        return False
    if status in BATCH_EVENTS:
        owner = select(_batches.c.resource_id).where(_batches.c.id == batch_id)
        outbox.insert_event(tx, owner, BATCH_EVENTS[status], batch_id, values[f"{status}_at"])
    return True


def set_counts(tx: Connection, batch_id: str, counts: BatchCounts) -> None:
    """Writes the counts of a batch that has not ended; does nothing to any other."""
    tx.execute(update(_batches).where(_batches.c.id == batch_id, _is_open).values(**asdict(counts)))


def _batch(row: row_mapping.Row) -> Batch:
    values = dict(row)
    counts = BatchCounts(**{name: values.pop(name) for name in _COUNTS})
    faults = tuple(BatchFault(**fault) for fault in values.pop("faults"))
    return Batch(**{**values, "status": BatchStatus(values["status"])}, counts=counts, faults=faults)
