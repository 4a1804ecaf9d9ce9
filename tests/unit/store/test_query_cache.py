"""The query cache is valid until something is committed by any process."""

import time
from datetime import UTC, datetime

import pytest

import databases
from luthier.core.errors import Unauthenticated
from luthier.core.models import Resource
from luthier.service.context import Context
from luthier.service.tenants import keys
from luthier.store.db import Connection, Database
from luthier.store.queries import resources

pytestmark = pytest.mark.parametrize("database_kind", databases.KINDS)
NOTICED_S = 0.4
"""Within this, and before the next poll, PostgreSQL's NOTIFY is here; SQLite's file is seen at once."""
START = datetime(2026, 11, 22, tzinfo=UTC)


class Counted:
    """A query that counts how often it is really asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, tx: Connection) -> Resource | None:
        self.times += 1
        return resources.get(tx, "r")


def test_query_runs_again_only_after_a_commit(database: Database) -> None:
    query = Counted()
    databases.wait_until_cached(database)
    assert database.cached("r", query) is None
    assert database.cached("r", query) is None
    assert query.times == 2  # that something is missing is never remembered
    with database.writing() as tx:
        resources.insert_resource(tx, Resource("r", "s", "g", "a"), START)
    assert [database.cached("r", query), database.cached("r", query)] == [Resource("r", "s", "g", "a")] * 2
    assert query.times == 3
    with database.writing():
        pass  # writes nothing
    assert database.peek("r") is not None
    with database.writing() as tx:
        resources.insert_resource(tx, Resource("other", "s", "g", "b"), START)
    assert database.peek("r") is None
    database.cached("r", query)
    assert query.times == 4


def test_key_revoked_by_another_process_opens_nothing(context: Context, database_kind: str) -> None:
    with context.database.writing() as tx:
        resources.insert_key(tx, keys.hash_key("second"), keys.DEFAULT_RESOURCE.id, "second", START)
    databases.wait_until_cached(context.database)
    for _ in range(2):
        keys.authenticate(context, ["second"])
    assert keys.recall_principal(context, ["second"]) is not None
    with databases.opened_again(context.database) as other, other.writing() as tx:
        resources.delete_key(tx, keys.DEFAULT_RESOURCE.id, "second")
    deadline = time.monotonic() + (0 if database_kind == "sqlite" else NOTICED_S)
    while keys.recall_principal(context, ["second"]) is not None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert keys.recall_principal(context, ["second"]) is None
    with pytest.raises(Unauthenticated):
        keys.authenticate(context, ["second"])
