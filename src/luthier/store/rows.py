"""Values to rows and back: the few shapes that differ between core's nouns and the tables, and paging."""

import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table, bindparam, select
from sqlalchemy.dialects import sqlite

from luthier.core.errors import InvalidRequest
from luthier.core.models import JobError

Row = RowMapping | Mapping[str, Any]
"""A row by column names. A dict reads faster than SQLAlchemy's own mapping, which looks each name up again."""

_DIALECT = sqlite.dialect(paramstyle="named")


class Read:
    """A SELECT that SQLAlchemy writes once, asked through the driver's own cursor.

    For what requests ask all the time: SQLAlchemy's way takes ten times as long as SQLite does. Parameters are
    `bindparam`s of plain text and numbers; values come back as by SQLAlchemy, converted by their columns' types.
    """

    def __init__(self, statement: Select[Any]) -> None:
        compiled = statement.compile(dialect=_DIALECT)
        columns = list(statement.selected_columns)
        self._sql = str(compiled)
        self._fixed = {name: value for name, value in compiled.params.items() if value is not None}
        self._names = tuple(str(column.key) for column in columns)
        found = [(place, _converter(column)) for place, column in enumerate(columns)]
        self._converters = [(self._names[place], convert) for place, convert in found if convert is not None]

    def all(self, tx: Connection, **values: str | int) -> list[dict[str, Any]]:
        names, converters = self._names, self._converters
        found = []
        for row in driver(tx).execute(self._sql, self._fixed | values):
            made = dict(zip(names, row, strict=True))
            for name, convert in converters:
                made[name] = convert(made[name])
            found.append(made)
        return found

    def first(self, tx: Connection, **values: str | int) -> dict[str, Any] | None:
        return next(iter(self.all(tx, **values)), None)


def _converter(column: ColumnElement[Any]) -> Any:
    """What makes the driver's value the column's; None where they are the same."""
    return column.type.dialect_impl(_DIALECT).result_processor(_DIALECT, None)


class Pages:
    """The pages of one list, each statement compiled once. `scope`'s parameters are `bindparam`s; see `page`."""

    def __init__(self, statement: Select[Any], table: Table, scope: ColumnElement[bool]) -> None:
        seq = table.c.seq
        limited = statement.where(scope).limit(bindparam("row_limit", type_=seq.type))
        cursor: ColumnElement[int] = bindparam("cursor", type_=seq.type)
        self._cursor = Read(select(seq).where(table.c.id == bindparam("after"), scope))
        self._newest = Read(limited.order_by(seq.desc()))
        self._newest_after = Read(limited.where(seq < cursor).order_by(seq.desc()))
        self._oldest = Read(limited.order_by(seq))
        self._oldest_after = Read(limited.where(seq > cursor).order_by(seq))

    def page(
        self, tx: Connection, after: str | None, limit: int, *, ascending: bool = False, **values: str | int
    ) -> tuple[list[dict[str, Any]], bool]:
        """As the function `page`; `values` are the scope's."""
        if after:
            found = self._cursor.first(tx, after=after, **values)
            if found is None:
                raise _invalid_cursor(after)
            read = self._oldest_after if ascending else self._newest_after
            rows = read.all(tx, cursor=found["seq"], row_limit=limit + 1, **values)
        else:
            rows = (self._oldest if ascending else self._newest).all(tx, row_limit=limit + 1, **values)
        return rows[:limit], len(rows) > limit


def driver(tx: Connection) -> sqlite3.Connection:
    """SQLite's own connection under one of SQLAlchemy's, in the same transaction."""
    found = tx.connection.dbapi_connection
    assert isinstance(found, sqlite3.Connection)
    return found


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
            raise _invalid_cursor(after)
        statement = statement.where(table.c.seq > seq if ascending else table.c.seq < seq)
    ordered = statement.where(scope).order_by(table.c.seq if ascending else table.c.seq.desc()).limit(limit + 1)
    result = tx.execute(ordered)
    names = tuple(result.keys())
    rows = [dict(zip(names, row, strict=True)) for row in result]
    return rows[:limit], len(rows) > limit


def _invalid_cursor(after: str) -> InvalidRequest:
    return InvalidRequest(
        "invalid_cursor", f"after={after!r} is no id of this list; pass the id of the last item seen.", "after"
    )
