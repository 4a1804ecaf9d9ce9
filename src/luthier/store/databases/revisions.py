"""The revisions of the schema: migration to the newest one, and which one a database is at. One chain for SQLite and
PostgreSQL; an empty PostgreSQL database begins at its head.
"""

import logging
import secrets
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, inspect

from luthier.core.errors import Conflict
from luthier.store import schema, tables

logger = logging.getLogger(__name__)

_MIGRATIONS = Path(__file__).parent.with_name("migrations")


def migrate(connection: Connection, description: str) -> None:
    """Migrates the schema to the newest revision, in the caller's write transaction, and logs it by the two revisions,
    since it cannot be undone; does nothing if it is there.

    Raises Conflict, and changes nothing, for a database of a newer version or with another program's tables;
    `description` names it in the message.
    """
    if is_newest(connection):
        return
    config = _config()
    config.attributes["connection"] = connection
    before = MigrationContext.configure(connection).get_current_revision()
    if before is not None and not has_revision(before):
        text = (
            f"{description} is of a newer version of Luthier (schema {before:.20}). Install that one. Nothing is "
            "changed."
        )
        raise Conflict("newer_database", text)
    if before is None and connection.dialect.name == "postgresql":
        _create_all(connection, description)
        command.stamp(config, "head")
        return
    command.upgrade(config, "head")
    if before is not None:
        now = MigrationContext.configure(connection).get_current_revision()
        logger.info("database migrated from=%s to=%s", before, now)


def is_newest(connection: Connection) -> bool:
    """Whether Alembic's row in the database names the newest revision of this version."""
    return MigrationContext.configure(connection).get_current_revision() == _scripts().get_current_head()


def has_revision(revision: str) -> bool:
    """Whether this version knows a revision of the schema; False for one of a newer version."""
    return any(script.revision == revision for script in _scripts().walk_revisions())


def _create_all(connection: Connection, description: str) -> None:
    """Creates every table of the newest revision, and the rows that the migrations of SQLite insert.

    The migrations up to 0021 are written for SQLite alone: no PostgreSQL database is older. Raises Conflict for a
    database that already has a table of one of the names.
    """
    taken = sorted(set(inspect(connection).get_table_names()) & set(tables.metadata.tables))
    if taken:
        text = (
            f"{description} has a table {taken[0]} and no schema of Luthier: it is another program's. Make a database "
            "of Luthier's own. Nothing is changed."
        )
        raise Conflict("database_of_another", text)
    tables.metadata.create_all(connection, checkfirst=False)
    own = {"id": secrets.token_hex(8), "created_at": datetime.now(UTC)}
    connection.execute(insert(schema.installation).values(own))
    connection.execute(insert(schema.commit_counter).values(id=1, number=0))


def _config() -> Config:
    """Alembic's configuration, without a file: only where the migrations are."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


@cache
def _scripts() -> ScriptDirectory:
    """The migrations of this version, read once a process."""
    return ScriptDirectory.from_config(_config())
