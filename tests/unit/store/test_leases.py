"""A lease has one holder; who takes over gets a greater token, and who lost it writes nothing through the fence."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from luthier.core.errors import LeaseLost
from luthier.process import process_identity
from luthier.service.leasing import lease_keeper
from luthier.service.leasing.lease_keeper import LeaseKeeper
from luthier.store.db import Database, open_database
from luthier.store.fencing.fenced_database import FencedDatabase
from luthier.store.queries.leasing import database_clock, leases
from luthier.store.queries.leasing.leases import Lease

NAME = "supervisor"
TTL = timedelta(seconds=60)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "luthier.db")
    yield opened
    opened.close()


def take(database: Database, holder: str, ttl: timedelta = TTL, gone: str | None = None) -> Lease | None:
    with database.writing() as tx:
        return leases.take(tx, NAME, holder, ttl, gone)


def test_lease_that_is_held_is_refused_to_everybody_else(database: Database) -> None:
    assert take(database, "a") == Lease(NAME, "a", 1)
    assert take(database, "b") is None


def test_lease_whose_time_is_over_goes_to_the_next_with_a_greater_token(database: Database) -> None:
    take(database, "a", timedelta(0))
    assert take(database, "b") == Lease(NAME, "b", 2)


def test_lease_of_a_process_that_has_ended_is_free_at_once(database: Database) -> None:
    take(database, "a")
    assert take(database, "b", gone="c") is None
    assert take(database, "b", gone="a") == Lease(NAME, "b", 2)


def test_lease_whose_time_is_over_stays_its_holders_until_somebody_takes_it(database: Database) -> None:
    lease = take(database, "a", timedelta(0))
    assert lease is not None
    with database.writing() as tx:
        assert leases.renew(tx, lease, TTL)
    assert take(database, "b") is None


def test_released_lease_is_free_and_its_token_goes_on(database: Database) -> None:
    lease = take(database, "a")
    assert lease is not None
    LeaseKeeper(database, lease, 60, lambda: None).stop()
    assert take(database, "b") == Lease(NAME, "b", 2)


def test_renewal_and_release_after_a_take_over_change_nothing(database: Database) -> None:
    old = take(database, "a", timedelta(0))
    assert old is not None
    take(database, "b")
    with database.writing() as tx:
        assert not leases.renew(tx, old, TTL)
        leases.release(tx, old)
        held = leases.get(tx, NAME)
    assert held is not None
    assert (held.lease, held.is_over) == (Lease(NAME, "b", 2), False)


def test_fenced_database_writes_until_another_process_takes_over_and_nothing_after_it(database: Database) -> None:
    lease = take(database, "a", timedelta(0))
    assert lease is not None
    fenced = FencedDatabase(database, lease)
    with fenced.writing() as tx:
        tx.execute(text("CREATE TABLE written (n INTEGER)"))
        tx.execute(text("INSERT INTO written VALUES (1)"))
    take(database, "b")
    with pytest.raises(LeaseLost), fenced.writing() as tx:
        tx.execute(text("INSERT INTO written VALUES (2)"))
    with pytest.raises(LeaseLost):
        fenced.check()
    with fenced.reading() as tx:
        assert tx.execute(text("SELECT n FROM written")).scalars().all() == [1]


def test_database_s_clock_is_that_of_the_machine_and_goes_on_within_a_transaction(database: Database) -> None:
    with database.reading() as tx:
        first = database_clock.now(tx)
        while database_clock.now(tx) == first:
            pass
    with database.writing() as tx:
        assert timedelta(0) < database_clock.now(tx) - first < timedelta(seconds=30)


def test_keeper_says_once_that_another_process_has_taken_over(database: Database) -> None:
    lease = take(database, "a", timedelta(0))
    assert lease is not None
    take(database, "b")
    told: list[str] = []
    keeper = LeaseKeeper(database, lease, 0.03, lambda: told.append("lost"))
    keeper.start()
    while not told:
        pass
    keeper.stop()
    assert told == ["lost"]


def test_holder_of_this_machine_is_known_to_have_ended_and_one_of_elsewhere_never(database: Database) -> None:
    name = process_identity.new_name()
    assert process_identity.has_ended(name), "an earlier part of the process itself"
    machine = name.rpartition("/")[0].rpartition("/")[0]
    assert not process_identity.has_ended(f"{machine}/1@{start_of(1)}/abc")
    assert process_identity.has_ended(f"{machine}/1@7/abc"), "its pid is another process's now"
    assert process_identity.has_ended(f"{machine}/4194304@7/abc")
    assert not process_identity.has_ended(f"elsewhere/{machine.partition('/')[2]}/4194304@7/abc")
    assert lease_keeper.take(database, NAME, f"{machine}/4194304@7/abc", 60) is not None
    assert lease_keeper.take(database, NAME, name, 60) == Lease(NAME, name, 2)
    assert lease_keeper.take(database, "other", "elsewhere/x/1@1/a", 60) is not None
    assert lease_keeper.take(database, "other", name, 60) is None
    assert lease_keeper.take(database, "other", name, 60, is_alone=True) == Lease("other", name, 2)


def start_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
