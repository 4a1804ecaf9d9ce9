"""SQLite beside PostgreSQL in one process: job gets and creations a second, and how soon a commit of another process is
noticed. `PYTHONPATH=tests/support python -m bench.database`; needs Debian's postgresql.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import postgres
from luthier.api.openapi import example_answers
from luthier.core.models import Resource
from luthier.service.tenants import keys
from luthier.store import db
from luthier.store.db import Database
from luthier.store.queries import events, jobs, resources

JOB = replace(example_answers.JOB, resource_id=keys.DEFAULT_RESOURCE.id)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=3.0, help="for each figure")
    seconds = arguments.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        _measure("SQLite", db.open_database(Path(folder) / "luthier.db"), seconds)
    server = postgres.Server.create(fsync="on", full_page_writes="on", synchronous_commit="on", autovacuum="on")
    try:
        url = server.url(server.create_database())
        _measure("PostgreSQL", db.open_postgres(url), seconds)
        one, other = db.open_postgres(url), db.open_postgres(url)
        _measure_notice(one, other)
        one.close()
        other.close()
    finally:
        server.remove()


def _measure(name: str, database: Database, seconds: float) -> None:
    with database.writing() as tx:
        resources.insert_resource(tx, keys.DEFAULT_RESOURCE, JOB.created_at)
        jobs.insert_job(tx, JOB)
    numbers = iter(range(10**9))

    def get() -> None:
        with database.reading() as tx:
            assert jobs.get(tx, JOB.resource_id, JOB.id) is not None

    def create() -> None:
        job = replace(JOB, id=f"ftjob-{next(numbers)}")
        event = replace(example_answers.EVENT, id=f"ftevent-{job.id}", job_id=job.id)
        with database.writing() as tx:
            jobs.insert_job(tx, job)
            events.insert_events(tx, [event])

    for threads in (1, 4):
        gets, creations = _rate(get, threads, seconds), _rate(create, threads, seconds)
        print(f"{name}, {threads} threads: {gets:,.0f} gets/s, {creations:,.0f} creations/s")
    database.close()


def _rate(call: Callable[[], None], n_threads: int, seconds: float) -> float:
    """Calls a second, by so many threads together."""
    deadline = time.monotonic() + seconds
    counts: list[int] = []

    def work() -> None:
        count = 0
        while time.monotonic() < deadline:
            call()
            count += 1
        counts.append(count)

    threads = [threading.Thread(target=work) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def _measure_notice(one: Database, other: Database, times: int = 200) -> None:
    """From the end of a commit by `other` to the first look of `one` that sees it."""
    while one.version() != one.version():
        time.sleep(0.01)
    took = []
    for number in range(times):
        before = one.version()
        with other.writing() as tx:
            resources.insert_resource(tx, Resource(f"r{number}", "s", "g", f"a{number}"), JOB.created_at)
        began = time.perf_counter()
        while one.version() == before:
            time.sleep(0.0001)
        took.append((time.perf_counter() - began) * 1000)
        time.sleep(0.02)
    took.sort()
    print(f"commit noticed after {statistics.median(took):.1f} ms (median), {took[-1]:.1f} ms (longest of {times})")


if __name__ == "__main__":
    main()
