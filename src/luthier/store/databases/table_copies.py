"""The rows of a SQLite database in a new PostgreSQL database: every table, in one transaction, counted afterwards."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    Executable,
    Table,
    Text,
    bindparam,
    cast,
    delete,
    func,
    insert,
    select,
    type_coerce,
)

from luthier.core.errors import Conflict, InvalidRequest
from luthier.store import schema, tables
from luthier.store.databases import postgres_errors

_ROWS = 500
"""So many rows are sent at a time. A few of them have megabytes."""
_OWN_ROWS = frozenset({schema.installation, schema.commit_counter})
"""Tables that have a row in a database without any use. Each database counts its own commits."""
_COPIED = tuple(table for table in tables.metadata.sorted_tables if table is not schema.commit_counter)


def copy_all(source: Connection, target: Connection, description: str) -> Mapping[str, int]:
    """Copies every row of `source`, a SQLite snapshot, into the tables of `target`, which is in a write transaction;
    returns how many rows of each table there are. Numbers of rows go on where they were.

    The caller rolls back what raises: Conflict for a target that has rows, `description` names it, for a row that
    PostgreSQL cannot hold, and for counts that differ.
    """
    _require_empty(target, description)
    counts: dict[str, int] = {}
    target.execute(delete(schema.installation))
    for table in _COPIED:
        try:
            with postgres_errors.translated():
                counts[table.name] = _copy(source, target, table)
        except InvalidRequest as error:
            text = f"A row of the table {table.name} cannot be stored there: {error.message} Nothing was copied."
            raise Conflict("row_not_storable", text) from error
    for table in _COPIED:
        if "seq" in table.c and table.c.seq.identity is not None:
            _set_number(source, target, table)
    return counts


def _require_empty(target: Connection, description: str) -> None:
    """Raises Conflict for a database with rows of any service."""
    for table in tables.metadata.sorted_tables:
        if table not in _OWN_ROWS and _count(target, table):
            text = f"{description} has rows in the table {table.name}: it is in use. Make a new database."
            raise Conflict("database_not_empty", text)
    prefix = target.execute(select(schema.installation.c.blob_prefix)).scalar_one()
    if prefix is not None:
        raise Conflict("database_not_empty", f"{description} is a service's already. Make a new database.")


def _copy(source: Connection, target: Connection, table: Table) -> int:
    """Copies one table; returns how many rows both have. Raises Conflict if they differ."""
    statement = insert(table).values(
        {column.name: cast(bindparam(f"json_{column.name}", type_=Text()), JSON) for column in _json_columns(table)}
        | {column.name: bindparam(f"plain_{column.name}", type_=column.type) for column in _plain_columns(table)}
    )
    for rows in source.execute(_select(table)).mappings().partitions(_ROWS):
        target.execute(statement, [dict(row) for row in rows])
    copied, wanted = _count(target, table), _count(source, table)
    if copied != wanted:
        raise Conflict("rows_differ", f"The table {table.name} has {wanted} rows, and {copied} were copied.")
    return copied


def _select(table: Table) -> Executable:
    """The rows by the names of the statement's parameters. JSON comes as the text in which it is stored, so that no
    number and no null of it changes.
    """
    columns = [type_coerce(column, Text()).label(f"json_{column.name}") for column in _json_columns(table)]
    columns += [column.label(f"plain_{column.name}") for column in _plain_columns(table)]
    return select(*columns)


def _json_columns(table: Table) -> list[Any]:
    return [column for column in table.c if isinstance(column.type, JSON)]


def _plain_columns(table: Table) -> list[Any]:
    return [column for column in table.c if not isinstance(column.type, JSON)]


def _set_number(source: Connection, target: Connection, table: Table) -> None:
    """Has the target number the table's next row as the source would: above every row that ever was (AUTOINCREMENT)."""
    sql = "SELECT seq FROM sqlite_sequence WHERE name = ?"
    last = source.exec_driver_sql(sql, (table.name,)).scalar()
    highest = source.execute(select(func.max(table.c.seq))).scalar()
    if number := max(last or 0, highest or 0):
        target.execute(select(func.setval(func.pg_get_serial_sequence(table.name, "seq"), number)))


def _count(tx: Connection, table: Table) -> int:
    return int(tx.execute(select(func.count()).select_from(table)).scalar_one())
