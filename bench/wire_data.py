"""A data folder with many jobs, one of them with many events, made with the service's own store."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from luthier.api.openapi import example_answers
from luthier.core.models import Event, Job
from luthier.service.tenants import keys
from luthier.store import db
from luthier.store.queries import events, jobs
from luthier.store.queries import resources as resource_rows

KEY = "bench-key-0123456789abcdef0123456789abcdef"
START = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 5000


def fill(path: Path, n_jobs: int, n_events: int) -> str:
    """Writes the database and gives the id of the job that has the events."""
    database = db.open_database(path)
    with database.writing() as tx:
        resource_rows.insert_resource(tx, keys.DEFAULT_RESOURCE, START)
        for number in range(n_jobs):
            jobs.insert_job(tx, _job(number))
    last = _job(n_jobs - 1).id
    for first in range(0, n_events, BATCH):
        with database.writing() as tx:
            events.insert_events(tx, [_event(last, number) for number in range(first, min(first + BATCH, n_events))])
    database.close()
    return last


def job_id(number: int) -> str:
    return f"ftjob-{number:032x}"


def event_id(number: int) -> str:
    return f"ftevent-{number:032x}"


def _job(number: int) -> Job:
    created = START + timedelta(seconds=number)
    return replace(example_answers.JOB, id=job_id(number), resource_id=keys.DEFAULT_RESOURCE.id, created_at=created)


def _event(job_id: str, number: int) -> Event:
    created = START + timedelta(seconds=number)
    return replace(example_answers.EVENT, id=event_id(number), job_id=job_id, created_at=created)
