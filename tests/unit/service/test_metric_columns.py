"""A job's metrics as columns: parsed once, kept within bounds, reduced to what a chart needs."""

import itertools
import json
import math
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fakes import BASE
from luthier.core.models import Event, Job
from luthier.core.states import EventLevel, EventType, JobStatus, Method
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.service.context import Context
from luthier.service.job_views import job_metrics, metric_reduction
from luthier.service.job_views.job_metrics import MetricsQuery
from luthier.service.job_views.metric_columns import Columns
from luthier.service.job_views.metrics_cache import MetricsCache
from luthier.service.tenants import keys
from luthier.store.queries import events, jobs

RESOURCE = keys.DEFAULT_RESOURCE
START = datetime(2026, 11, 30, tzinfo=UTC)


def columns_of(*data: dict[str, Any]) -> Columns:
    columns = Columns()
    columns.extend([(seq, seq * 1_000_000, json.dumps(one)) for seq, one in enumerate(data, start=1)])
    return columns


def steps(first: int, last: int) -> Iterator[dict[str, Any]]:
    for step in range(first, last + 1):
        yield {"step": step, "train_loss": 1 / step, "train_mean_token_accuracy": 0.5}


@pytest.fixture
def store(context: Context) -> Any:
    """Inserts steps as events of a job, and the job at its first."""
    numbers = iter(range(1_000_000))

    def insert(job_id: str, data: list[dict[str, Any]]) -> None:
        with context.database.writing() as tx:
            if not jobs.exists(tx, RESOURCE.id, job_id):
                jobs.insert_job(tx, a_job(job_id))
            rows = [
                Event(
                    f"ftevent-{next(numbers)}",
                    job_id,
                    START + timedelta(seconds=one["step"]),
                    EventLevel.INFO,
                    EventType.METRICS,
                    "Step",
                    one,
                )
                for one in data
            ]
            events.insert_events(tx, rows)

    return insert


def a_job(job_id: str) -> Job:
    return Job(
        id=job_id,
        resource_id=RESOURCE.id,
        status=JobStatus.RUNNING,
        base_model=BASE,
        requested_model=BASE,
        parent_model=None,
        training_file="file-1",
        validation_file=None,
        hyperparameters=Hyperparameters(),
        method=Method.SUPERVISED,
        method_sent=False,
        seed=1,
        suffix=None,
        extras={},
        created_at=START,
    )


def test_series_that_begins_late_is_missing_before() -> None:
    columns = columns_of(*steps(1, 2))
    columns.extend([(9, 9_000_000, '{"step": 3, "train_loss": 0.5, "valid_loss": 0.75, "trained_tokens": 12}')])
    assert list(columns.step) == [1, 2, 3]
    assert columns.at[2] == 9.0
    assert [math.isnan(value) for value in columns.values["valid_loss"]] == [True, True, False]
    assert [math.isnan(value) for value in columns.tokens] == [True, True, False]
    assert "gradient_norm" not in columns.values


def test_figure_that_is_no_number_is_missing() -> None:
    columns = columns_of({"step": 1, "train_loss": 1.0}, {"step": 2, "train_loss": math.nan, "valid_loss": None})
    assert columns.values["train_loss"][0] == 1.0
    assert math.isnan(columns.values["train_loss"][1])


def test_reduction_keeps_extremes_ends_and_every_value_of_the_whole_file() -> None:
    data = list(steps(1, 10_000))
    for step, loss in ((4_321, 9.0), (7_777, -9.0)):
        data[step - 1]["train_loss"] = loss
    for step in range(500, 10_001, 500):
        data[step - 1]["full_valid_loss"] = 1.0
    data[1_234]["gradient_norm"] = 50.0
    columns = columns_of(*data)
    names = ("train_loss", "train_mean_token_accuracy", "full_valid_loss", "gradient_norm")
    kept = metric_reduction.kept_rows(columns, names, 400)
    assert len(kept) <= 400
    assert list(kept) == sorted(set(kept))
    assert {0, 9_999, 4_320, 7_776, 1_234, *range(499, 10_000, 500)} <= set(kept)
    longest_gap = max(after - before for before, after in itertools.pairwise(kept))
    assert longest_gap <= 10_000 // 50


def test_reduction_of_few_rows_keeps_all() -> None:
    assert list(metric_reduction.kept_rows(columns_of(*steps(1, 10)), ("train_loss",), 10)) == list(range(10))


def test_cache_reads_only_what_is_new_and_stays_within_its_bytes(context: Context, store: Any) -> None:
    cache = MetricsCache(max_bytes=60_000)
    for number in range(5):
        store(f"ftjob-{number}", list(steps(1, 500)))
    with context.database.reading() as tx:
        for number in range(5):
            assert len(cache.read(tx, f"ftjob-{number}", None, None)) == 500
            assert 0 < cache.bytes <= 60_000
    store("ftjob-4", list(steps(501, 503)))
    with context.database.reading() as tx:
        assert list(cache.read(tx, "ftjob-4", 499, 502).step) == [499, 500, 501, 502]
        assert len(cache.read(tx, "ftjob-0", None, None)) == 500, "one that was dropped is read again"
    for number in range(5):
        cache.forget(f"ftjob-{number}")
    assert cache.bytes == 0


def test_metrics_read_by_many_threads_while_they_grow_are_whole(context: Context, store: Any) -> None:
    cache, faults = MetricsCache(), []

    def read() -> None:
        for _ in range(20):
            found = job_metrics.read(context, cache, RESOURCE.id, "ftjob-1", MetricsQuery()).columns
            if list(found.step) != list(range(1, len(found) + 1)) or len(found.values["train_loss"]) != len(found):
                faults.append(list(found.step))

    store("ftjob-1", list(steps(1, 50)))
    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for batch in range(5):
        store("ftjob-1", list(steps(51 + 50 * batch, 100 + 50 * batch)))
    for thread in threads:
        thread.join(30)
    assert faults == []


def test_version_changes_with_the_job_and_with_the_query(context: Context, store: Any) -> None:
    store("ftjob-1", list(steps(1, 3)))
    store("ftjob-2", list(steps(1, 3)))

    def version(points: int = 2_000, form: str = "json") -> str:
        return job_metrics.version(context, RESOURCE.id, "ftjob-1", MetricsQuery(points=points), form)

    first = version()
    store("ftjob-2", list(steps(4, 5)))
    assert version() == first, "another job's steps change nothing"
    assert len({first, version(20), version(form="csv")}) == 3
    store("ftjob-1", list(steps(4, 4)))
    assert version() != first


@pytest.mark.parametrize("database_kind", ["sqlite"])  # PostgreSQL's choice depends on the number of rows
def test_metrics_are_found_by_the_index_of_job_and_number(context: Context, store: Any) -> None:
    store("ftjob-1", list(steps(1, 3)))
    with context.database.reading() as tx:
        plan = tx.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT seq, data FROM events WHERE job_id = 'a' AND type = 'metrics' AND seq > 3"
            " ORDER BY seq LIMIT 9"
        ).fetchall()
    assert ["ix_events_job_id" in row[-1] for row in plan] == [True]
