"""Looks inside JSON columns, as functions that are compiled for SQLite and for PostgreSQL."""

from typing import Any

from sqlalchemy import String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class text_member(FunctionElement[str]):  # noqa: N801 - SQLAlchemy's functions are named as in SQL
    """A member of a JSON object as text: `text_member(column, "name")`. The name is ours, never a user's text."""

    type = String()
    inherit_cache = True
    name = "text_member"


@compiles(text_member, "sqlite")
def _member_in_sqlite(element: "text_member", compiler: SQLCompiler, **options: Any) -> str:
    column, name = element.clauses
    return f"json_extract({compiler.process(column, **options)}, '$.{name.value}')"


@compiles(text_member, "postgresql")
def _member_in_postgres(element: "text_member", compiler: SQLCompiler, **options: Any) -> str:
    column, name = element.clauses
    sql = compiler.process(column, **options)
    # PostgreSQL stores U+0000 in JSON, and fails at the first look inside; the text is as Python's json writes it.
    by_text = f"""substring(CAST({sql} AS TEXT) from '"{name.value}": "([^"]*)"')"""
    return f"(CASE WHEN {_has_no_nul(sql)} THEN {sql} ->> '{name.value}' ELSE {by_text} END)"


def _has_no_nul(sql: str) -> str:
    return f"strpos(CAST({sql} AS TEXT), '\\u0000') = 0"


class json_pairs(FunctionElement[Any]):  # noqa: N801
    """The pairs of an object that is a member of a JSON column, as rows of two texts: `json_pairs(column, "name")`.

    On PostgreSQL there are none of a column that has U+0000 anywhere.
    """

    inherit_cache = True
    name = "json_pairs"


@compiles(json_pairs, "sqlite")
def _pairs_in_sqlite(element: "json_pairs", compiler: SQLCompiler, **options: Any) -> str:
    column, name = element.clauses
    return f"json_each({compiler.process(column, **options)}, '$.{name.value}')"


@compiles(json_pairs, "postgresql")
def _pairs_in_postgres(element: "json_pairs", compiler: SQLCompiler, **options: Any) -> str:
    column, name = element.clauses
    sql = compiler.process(column, **options)
    return f"json_each_text(CASE WHEN {_has_no_nul(sql)} THEN {sql} -> '{name.value}' END)"
