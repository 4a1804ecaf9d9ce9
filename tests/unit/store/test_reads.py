"""Reads through the driver: the same values as by SQLAlchemy, one snapshot, and what others committed seen at once."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

import databases
from luthier.api.openapi import example_answers
from luthier.core.errors import InvalidRequest
from luthier.core.models import Event, Job, JobError
from luthier.core.states import EventLevel, EventType, JobStatus, Method
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.service.tenants import keys
from luthier.store.db import Database
from luthier.store.queries import events, jobs, resources

pytestmark = pytest.mark.parametrize("database_kind", databases.KINDS)


@pytest.fixture
def database(database: Database) -> Database:
    with database.writing() as tx:
        resources.insert_resource(tx, keys.DEFAULT_RESOURCE, example_answers.JOB.created_at)
    return database


def job(number: int, **changes: object) -> Job:
    return replace(example_answers.JOB, id=f"ftjob-{number}", resource_id=keys.DEFAULT_RESOURCE.id, **changes)


def look(database: Database, id: str) -> Job | None:
    with database.reading() as tx:
        return jobs.get(tx, keys.DEFAULT_RESOURCE.id, id)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"error": JobError("c", "m", "p"), "status": JobStatus.FAILED, "extras": {"metadata": {"a": "ü"}}},
        {"extras": {}, "suffix": None, "validation_file": None, "finished_at": None, "has_run": True},
        {"method": Method.DPO, "hyperparameters": Hyperparameters(1, 2, 0.5, 0.1)},
        {"method_sent": True, "absorbed_bytes": 2**40, "handle": "pid:1@2"},
    ],
)
def test_job_read_is_the_job_written_in_every_field(database: Database, changes: dict[str, object]) -> None:
    made = job(1, **changes)
    with database.writing() as tx:
        jobs.insert_job(tx, made)
        assert jobs.get(tx, made.resource_id, made.id) == made  # its own write, before anything is committed
        by_sqlalchemy, _ = jobs.list_page(tx, made.resource_id, None, 5, {"a": "ü"} if "error" in changes else None)
    assert look(database, made.id) == made
    assert by_sqlalchemy == ([made] if "metadata" not in made.extras or "error" in changes else [])


def test_write_of_this_process_is_seen_by_the_next_read_on_every_kept_connection(database: Database) -> None:
    with database.reading() as first, database.reading() as second:
        assert first is not second
    for number in range(4):
        with database.writing() as tx:
            jobs.insert_job(tx, job(number))
        with database.reading() as first, database.reading() as second:
            for tx in (first, second):
                assert jobs.exists(tx, keys.DEFAULT_RESOURCE.id, f"ftjob-{number}")


def test_write_of_another_process_is_seen_by_the_next_read(database: Database) -> None:
    with database.writing() as tx:
        jobs.insert_job(tx, job(1))
    assert look(database, "ftjob-1") is not None
    with databases.opened_again(database) as other, other.writing() as tx:
        tx.exec_driver_sql("UPDATE jobs SET suffix = 'elsewhere' WHERE id = 'ftjob-1'")
    seen = look(database, "ftjob-1")
    assert seen is not None
    assert seen.suffix == "elsewhere"


def test_one_read_is_one_snapshot_whatever_is_written_beside_it(database: Database) -> None:
    with database.reading() as tx:
        assert not jobs.exists(tx, keys.DEFAULT_RESOURCE.id, "ftjob-1")
        with database.writing() as other:
            jobs.insert_job(other, job(1))
        assert not jobs.exists(tx, keys.DEFAULT_RESOURCE.id, "ftjob-1")
    assert look(database, "ftjob-1") is not None


def test_read_that_fails_leaves_no_transaction_open_for_the_next(database: Database) -> None:
    with pytest.raises(InvalidRequest, match="no id of this list"), database.reading() as tx:
        jobs.list_page(tx, keys.DEFAULT_RESOURCE.id, "ftjob-unknown", 5, {})
    with database.writing() as tx:
        jobs.insert_job(tx, job(1))
    assert look(database, "ftjob-1") is not None


def test_pages_give_every_event_once_from_both_ends(database: Database) -> None:
    told = [replace(example_answers.EVENT, id=f"e{number}", job_id="ftjob-1") for number in range(7)]
    told[3] = replace(told[3], data=None)
    with database.writing() as tx:
        jobs.insert_job(tx, job(1))
        events.insert_events(tx, told)
    with database.reading() as tx:
        first, more = events.list_page(tx, "ftjob-1", None, 4)
        rest, none_more = events.list_page(tx, "ftjob-1", first[-1].id, 4)
        assert (first + rest, more, none_more) == (told[::-1], True, False)
        assert events.list_since(tx, "ftjob-1", "e2", 9) == told[3:]
        assert events.list_page(tx, "ftjob-other", None, 4) == ([], False)


def test_events_of_a_job_are_listed_in_the_order_of_their_times(database: Database) -> None:
    def event(id: str, number: int, second: int) -> Event:
        at = datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)
        return Event(id, f"ftjob-{number}", at, EventLevel.INFO, EventType.MESSAGE, id)

    with database.writing() as tx:
        for number in (1, 2):
            jobs.insert_job(tx, job(number))
        events.insert_events(tx, [event("a", 1, 5), event("b", 1, 3), event("c", 2, 1)])
    with database.writing() as tx:
        events.insert_events(tx, [event("d", 1, 4), event("e", 1, 9), event("f", 2, 2)])
    with database.reading() as tx:
        listed = {number: events.list_since(tx, f"ftjob-{number}", None, 10) for number in (1, 2)}
    assert [(one.id, one.created_at.second) for one in listed[1]] == [("a", 5), ("b", 5), ("d", 5), ("e", 9)]
    assert [(one.id, one.created_at.second) for one in listed[2]] == [("c", 1), ("f", 2)]
