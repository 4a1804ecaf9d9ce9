"""Values to rows and back: the few shapes that differ between core's nouns and the tables, and paging."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table, select

from luthier.core.errors import InvalidRequest
from luthier.core.models import JobError

Row = RowMapping | Mapping[str, Any]
"""A row by column names. A dict reads faster than SQLAlchemy's own mapping, which looks each name up again."""


def error_to_json(error: JobError | None) -> dict[str, Any] | None:
    return None if error is None else asdict(error)


def error_from_json(value: Mapping[str, Any] | None) -> JobError | None:
    return None if value is None else JobError(**value)


def page(
    tx: Connection,
    statement: Select[Any],
    table: Table,
    scope: ColumnElement[bool],
    after: str | None,
    limit: int,
    *,
    ascending: bool = False,
) -> tuple[list[dict[str, Any]], bool]:
    """One page in order of `seq`, newest first unless `ascending`, and whether more follow.

    `scope` limits what the caller may see, the cursor included: an `after` outside it is an InvalidRequest.
    """
    if after:  # some clients send `after=` for the first page
        seq = tx.execute(select(table.c.seq).where(table.c.id == after, scope)).scalar()
        if seq is None:
            raise InvalidRequest(
                "invalid_cursor", f"after={after!r} is no id of this list; pass the id of the last item seen.", "after"
            )
        statement = statement.where(table.c.seq > seq if ascending else table.c.seq < seq)
    ordered = statement.where(scope).order_by(table.c.seq if ascending else table.c.seq.desc()).limit(limit + 1)
    result = tx.execute(ordered)
    names = tuple(result.keys())
    rows = [dict(zip(names, row, strict=True)) for row in result]
    return rows[:limit], len(rows) > limit
