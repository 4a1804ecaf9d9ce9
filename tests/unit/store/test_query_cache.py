"""The query cache is valid exactly until something is committed by any process."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from luthier.core.errors import Unauthenticated
from luthier.core.models import Resource
from luthier.service.context import Context
from luthier.service.tenants import keys
from luthier.store import db
from luthier.store.db import Connection
from luthier.store.queries import resources

START = datetime(2026, 11, 22, tzinfo=UTC)


class Counted:
    """A query that counts how often it is really asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, tx: Connection) -> Resource | None:
        self.times += 1
        return resources.get(tx, "r")


def test_query_runs_again_only_after_a_commit(tmp_path: Path) -> None:
    database = db.open_database(tmp_path / "a.db")
    query = Counted()
    assert database.cached("r", query) is None
    assert database.cached("r", query) is None
    assert query.times == 2  # that something is missing is never remembered
    with database.writing() as tx:
        resources.insert_resource(tx, Resource("r", "s", "g", "a"), START)
    assert [database.cached("r", query), database.cached("r", query)] == [Resource("r", "s", "g", "a")] * 2
    assert query.times == 3
    with database.writing() as tx:
        resources.insert_resource(tx, Resource("other", "s", "g", "b"), START)
    assert database.peek("r") is None
    database.cached("r", query)
    assert query.times == 4
    database.close()


def test_key_revoked_by_another_process_opens_nothing_at_once(context: Context, tmp_path: Path) -> None:
    with context.database.writing() as tx:
        resources.insert_key(tx, keys.hash_key("second"), keys.DEFAULT_RESOURCE.id, "second", START)
    for _ in range(2):
        keys.authenticate(context, ["second"])
    assert keys.recall_principal(context, ["second"]) is not None
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()"
    statement = "DELETE FROM api_keys WHERE name = 'second'"
    path = context.database.url.removeprefix("sqlite:///")
    subprocess.run([sys.executable, "-c", code, path, statement], check=True)
    assert keys.recall_principal(context, ["second"]) is None
    with pytest.raises(Unauthenticated):
        keys.authenticate(context, ["second"])
