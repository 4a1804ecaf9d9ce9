"""Behind pgbouncer, which gives each transaction another session of the server."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select

import databases
import postgres
from luthier.core.models import Resource
from luthier.store import db, schema
from luthier.store.db import Database
from luthier.store.queries import jobs, resources

START = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture(scope="module")
def bouncer() -> Iterator[postgres.Bouncer]:
    if not Path("/usr/sbin/pgbouncer").exists():
        pytest.skip("pgbouncer is not installed (Debian's package pgbouncer)")
    made = postgres.Bouncer(postgres.shared(), connections=3)
    databases.wait_until((postgres.shared().folder / ".s.PGSQL.6432").exists)
    yield made
    made.close()


@pytest.fixture
def name() -> Iterator[str]:
    server = postgres.shared()
    made = server.create_database(postgres.template())
    yield made
    server.drop_database(made)


def test_writers_and_readers_of_two_processes_share_three_sessions(bouncer: postgres.Bouncer, name: str) -> None:
    direct = postgres.shared().url(name)
    both = [db.open_postgres(bouncer.url(name), direct) for _ in range(2)]

    def work(one: Database, writer: int) -> None:
        for number in range(25):
            id = f"r{writer}-{number}"
            with one.writing() as tx:
                count = tx.execute(select(func.count()).select_from(schema.resources)).scalar_one()
                resources.insert_resource(tx, Resource(id, "s", "g", id), START)
                assert tx.execute(select(func.count()).select_from(schema.resources)).scalar_one() == count + 1
            with one.reading() as tx:
                assert resources.get(tx, id) is not None
                assert jobs.get(tx, id, "none") is None  # what the driver would prepare after five times

    threads = [threading.Thread(target=work, args=(one, n)) for n, one in enumerate(both * 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with both[0].reading() as tx:
        assert tx.execute(select(func.count()).select_from(schema.resources)).scalar_one() == 6 * 25
    for one in both:
        one.close()


@pytest.mark.parametrize("has_direct", [True, False])
def test_commit_of_another_process_is_noticed(
    bouncer: postgres.Bouncer, name: str, has_direct: bool, caplog: pytest.LogCaptureFixture
) -> None:
    direct = postgres.shared().url(name) if has_direct else None
    one, other = db.open_postgres(bouncer.url(name), direct), db.open_postgres(bouncer.url(name), direct)
    databases.wait_until_cached(one)
    version = one.version()
    with other.writing() as tx:
        resources.insert_resource(tx, Resource("r", "s", "g", "a"), START)
    databases.wait_until(lambda: one.version() != version, 5)
    one.close()
    other.close()
    assert ("LUTHIER_DATABASE_DIRECT_URL" in caplog.text) is not has_direct
