"""The queue: heads by resource, jobs in order, and neither reads the rows of all that wait."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from luthier.api.openapi import example_answers
from luthier.core.models import Resource
from luthier.core.states import JobStatus
from luthier.store import db, row_mapping
from luthier.store.db import Database
from luthier.store.queries import jobs, resources
from luthier.store.queries.scheduling import queued_jobs
from luthier.store.queries.scheduling.queued_jobs import QueuedJob, QueueHead

BEGIN = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """Jobs of two resources in turn, a minute apart; the first has run already."""
    made = db.open_database(tmp_path / "a.db")
    with made.writing() as tx:
        for name in ("a", "b", "idle"):
            resources.insert_resource(tx, Resource(name, "s", "g", name), BEGIN)
        for number in range(6):
            job = replace(
                example_answers.JOB,
                id=f"ftjob-{number}",
                resource_id="ab"[number % 2],
                status=JobStatus.SUCCEEDED if number == 0 else JobStatus.QUEUED,
                created_at=BEGIN + timedelta(minutes=number),
                peak_memory_bytes=None if number == 2 else 2**33,
                has_run=False,
            )
            jobs.insert_job(tx, job)
    return made


def test_heads_are_the_oldest_waiting_job_of_each_resource_that_has_one(database: Database) -> None:
    at = BEGIN + timedelta(hours=1)
    with database.writing() as tx:
        queued_jobs.set_last_start(tx, "b", at)
    with database.reading() as tx:
        heads = sorted(queued_jobs.list_heads(tx), key=lambda head: head.job.seq)
    base = example_answers.JOB.base_model
    assert heads == [
        QueueHead("b", QueuedJob(2, "ftjob-1", base, 2**33), BEGIN + timedelta(minutes=1), at),
        QueueHead("a", QueuedJob(3, "ftjob-2", base, None), BEGIN + timedelta(minutes=2), None),
    ]


def test_jobs_of_a_resource_come_in_the_order_of_their_creation(database: Database) -> None:
    base = example_answers.JOB.base_model
    with database.reading() as tx:
        assert queued_jobs.list_after(tx, "a", 0, 5) == [
            QueuedJob(3, "ftjob-2", base, None),
            QueuedJob(5, "ftjob-4", base, 2**33),
        ]
        assert [job.id for job in queued_jobs.list_after(tx, "a", 3, 5)] == ["ftjob-4"]
        assert [job.id for job in queued_jobs.list_after(tx, "a", 0, 1)] == ["ftjob-2"]


@pytest.mark.parametrize("read", ["heads", "after", "unreleased"])
def test_reads_of_a_tick_go_by_indexes_and_sort_nothing(database: Database, read: str) -> None:
    with database.reading() as tx:
        asked: list[str] = []
        driver: Any = row_mapping.driver(tx)
        driver.set_trace_callback(asked.append)
        match read:
            case "heads":
                queued_jobs.list_heads(tx)
            case "after":
                queued_jobs.list_after(tx, "a", 0, 8)
            case _:
                jobs.list_unreleased(tx)
        driver.set_trace_callback(None)
        plan = [row[3] for row in tx.execute(text(f"EXPLAIN QUERY PLAN {asked[-1]}".replace(":", r"\:")))]
    index = "ix_jobs_has_run" if read == "unreleased" else "ix_jobs_queue"
    assert any(index in line for line in plan), plan
    assert not [line for line in plan if "TEMP B-TREE" in line or line.startswith("SCAN jobs")], plan
