"""Mapping of rows to values and back, where core's types and the tables differ, and keyset pagination (`after=<id>`,
ordered by `seq`). Used by the modules of `queries`; `Read` and `Pages` are the fast forms for frequent reads.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache, cached_property
from typing import Any, Generic, Protocol, TypeVar, cast

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Dialect,
    RowMapping,
    Select,
    Table,
    Text,
    TypeCoerce,
    bindparam,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from luthier.core.errors import InvalidRequest
from luthier.core.models import JobError
from luthier.core.raw_json import JsonText
from luthier.store import schema

T = TypeVar("T")

Row = RowMapping | Mapping[str, Any]
"""A row by column names. A dict is faster than SQLAlchemy's own mapping, which resolves each name."""

_Convert = Callable[[Any], Any]
_DIALECT = sqlite.dialect(paramstyle="named")
_DECODER = json.JSONDecoder()


class Rows(Protocol):
    """What a driver's cursor gives."""

    def fetchall(self) -> list[tuple[Any, ...]]: ...
    def fetchone(self) -> tuple[Any, ...] | None: ...


class Driver(Protocol):
    """A driver's own connection, of SQLite or of PostgreSQL, below one of SQLAlchemy's."""

    def execute(self, statement: str, values: Mapping[str, Any] = ..., /) -> Rows: ...
    def rollback(self) -> None: ...


class Read(Generic[T]):
    """A SELECT that SQLAlchemy compiles once for each database, executed by the driver's own cursor.

    For frequent reads: executing it by SQLAlchemy takes ten times as long as SQLite does. Parameters are `bindparam`s
    of plain text and numbers; each row is passed to `make` as positional arguments, its values converted by their
    columns' types or by `converters`, which are by column name.
    """

    def __init__(
        self, statement: Select[Any], make: Callable[..., T], converters: Mapping[str, _Convert] | None = None
    ) -> None:
        """Compiles the statement for SQLite; touches no database, so a module can do it at import. For PostgreSQL it is
        compiled at its first use there.
        """
        self._statement = statement
        compiled = statement.compile(dialect=_DIALECT)
        self._sql = str(compiled)
        self._fixed = {name: value for name, value in compiled.params.items() if value is not None}
        self._make = make
        named = converters or {}
        converters_by_column = [
            named.get(str(column.key)) or _converter(column.type) for column in statement.selected_columns
        ]
        self._converters = [
            (index, convert) for index, convert in enumerate(converters_by_column) if convert is not None
        ]

    def all(self, tx: Connection, **values: str | int) -> list[T]:
        """Every row as a value of `make`, in the statement's order; empty if there is none. `values` are the
        statement's `bindparam`s by name.
        """
        connection = tx.connection.dbapi_connection  # as in `raw`, a call to which would take half a microsecond
        if isinstance(connection, sqlite3.Connection):
            rows = connection.execute(self._sql, self._fixed | values).fetchall()
        else:
            rows = self._from_postgres(tx, values)
        columns: list[Iterable[Any]] = list(zip(*rows, strict=True))
        for index, convert in self._converters if rows else ():
            columns[index] = map(convert, columns[index])
        return list(map(self._make, *columns)) if rows else []

    def raw(self, tx: Connection, **values: str | int) -> list[tuple[Any, ...]]:
        """Every row as the driver gives it, neither converted nor made a value: for reads of very many rows."""
        connection = tx.connection.dbapi_connection
        if isinstance(connection, sqlite3.Connection):
            return connection.execute(self._sql, self._fixed | values).fetchall()
        return self._from_postgres(tx, values)

    def first(self, tx: Connection, **values: str | int) -> T | None:
        """The first row's value; None if there is no row. It fetches all rows, so the statement should limit them."""
        return next(iter(self.all(tx, **values)), None)

    def _from_postgres(self, tx: Connection, values: Mapping[str, str | int]) -> list[tuple[Any, ...]]:
        """The rows as psycopg gives them."""
        sql, fixed = self._for_postgres
        return driver(tx).execute(sql, {**fixed, **values}).fetchall()

    @cached_property
    def _for_postgres(self) -> tuple[str, dict[str, Any]]:
        """The statement for psycopg, and its fixed parameters. JSON comes as the text in which it is stored, as it does
        from SQLite: psycopg would parse it.
        """
        columns = [_as_stored(column) for column in self._statement.selected_columns]
        compiled = self._statement.with_only_columns(*columns).compile(dialect=_postgres())
        return str(compiled), {name: value for name, value in compiled.params.items() if value is not None}


def _converter(kind: TypeEngine[Any]) -> _Convert | None:
    """What converts the driver's value to the column type's; None if they are the same."""
    match kind:
        case schema.UtcTime():
            return schema.from_microseconds
        case JSON():
            return _from_json
        case _:
            return kind.dialect_impl(_DIALECT).result_processor(_DIALECT, None)


def _from_json(value: str | None) -> Any:
    """The value of a JSON column, decoded; None for SQL's NULL and for JSON's null."""
    return None if value is None or value == "null" else {} if value == "{}" else _DECODER.decode(value)


def json_text(value: str | None) -> JsonText | None:
    """A JSON column as a mapping that is decoded only when somebody looks inside; None for SQL's NULL
    and JSON's null.
    """
    return None if value is None or value == "null" else JsonText(value)


class Pages(Generic[T]):
    """The pages of one list, each statement compiled once. `scope` is the condition on which rows the list holds, its
    parameters `bindparam`s; rows, `make` and `converters` as in `Read`, paging as in `page`.
    """

    def __init__(
        self,
        statement: Select[Any],
        table: Table,
        scope: ColumnElement[bool],
        make: Callable[..., T],
        converters: Mapping[str, _Convert] | None = None,
    ) -> None:
        """Compiles the lookup of the cursor and the four SELECTs: first and later pages, in both orders."""
        seq = table.c.seq
        limited = statement.where(scope).limit(bindparam("row_limit", type_=seq.type))
        cursor: ColumnElement[int] = bindparam("cursor", type_=seq.type)
        self._cursor: Read[int] = Read(select(seq).where(table.c.id == bindparam("after"), scope), int)
        self._newest = Read(limited.order_by(seq.desc()), make, converters)
        self._newest_after = Read(limited.where(seq < cursor).order_by(seq.desc()), make, converters)
        self._oldest = Read(limited.order_by(seq), make, converters)
        self._oldest_after = Read(limited.where(seq > cursor).order_by(seq), make, converters)

    def page(
        self, tx: Connection, after: str | None, limit: int, *, ascending: bool = False, **values: str | int
    ) -> tuple[list[T], bool]:
        """At most `limit` rows and whether more follow, as the function `page`; `values` are the scope's `bindparam`s.
        Raises InvalidRequest, a 400 of the API's caller, for an `after` that is not an id of this list.
        """
        if after:
            seq = self._cursor.first(tx, after=after, **values)
            if seq is None:
                raise _invalid_cursor(after)
            read = self._oldest_after if ascending else self._newest_after
            rows = read.all(tx, cursor=seq, row_limit=limit + 1, **values)
        else:
            rows = (self._oldest if ascending else self._newest).all(tx, row_limit=limit + 1, **values)
        return rows[:limit], len(rows) > limit


def driver(tx: Connection) -> Driver:
    """The driver's own connection below one of SQLAlchemy's, in the same transaction."""
    return cast(Driver, tx.connection.dbapi_connection)


@cache
def _postgres() -> Dialect:
    """The dialect of psycopg, which need not be installed for it."""
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    return cast(Dialect, PGDialect_psycopg())  # type: ignore[no-untyped-call]


def _as_stored(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column of a result, or its text if it is JSON."""
    if isinstance(column, TypeCoerce) and isinstance(column.clause.type, JSON):
        return sql_cast(column.clause, Text)
    return sql_cast(column, Text).label(column.key) if isinstance(column.type, JSON) else column


def insert_missing(tx: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts the rows whose unique values no row has yet; does nothing with the others."""
    insert = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    tx.execute(insert(table).on_conflict_do_nothing(), rows)


def error_to_json(error: JobError | None) -> dict[str, Any] | None:
    """A job's or deployment's error as the value of its JSON column; None for no error."""
    return None if error is None else asdict(error)


def error_from_json(value: Mapping[str, Any] | None) -> JobError | None:
    """The error of a JSON column's decoded value; None for no error."""
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
    """At most `limit` rows in order of `seq`, newest first unless `ascending`, and whether more follow.

    The first page for an `after` of None or "", else the rows beyond the row of that id. `scope` limits what the caller
    may see, the cursor included: an `after` outside it raises InvalidRequest, a 400 of the API's caller.
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
    """The error for an `after` that names no row of the list."""
    return InvalidRequest(
        "invalid_cursor", f"after={after!r} is no id of this list; pass the id of the last item seen.", "after"
    )
