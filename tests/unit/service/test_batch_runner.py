"""The runner of batches: a line's error, time, a kill, a full disk, several tenants; the calls are a test's own."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

import batch_runs
from batch_runs import CHAT, chat, jsonl
from disk import full_disk
from fakes import BASE
from luthier.core.errors import (
    InvalidRequest,
    LuthierError,
    NotFound,
    RateLimited,
    Unavailable,
    UpstreamFailed,
)
from luthier.core.ids import DEFAULT_RESOURCE
from luthier.core.inference.batches import Batch
from luthier.core.inference.generation import Usage
from luthier.core.models import Resource
from luthier.core.states import BatchStatus
from luthier.service.background import resource_purge
from luthier.service.batches import batch_folder, batches
from luthier.service.batches.batches import BatchRequest
from luthier.service.batches.line_calls import LineAnswer
from luthier.service.batches.open_batch import Backoff
from luthier.service.context import Context
from luthier.service.files import files
from luthier.service.models.serving import Serving
from luthier.store.queries import files as file_rows
from luthier.store.queries import resources

Text = str
OTHER = "other"


@dataclass
class Calls:
    """Answers a line by the text of its message: with it, or with the error that `fails` gives."""

    fails: Callable[[Text], Exception | None] = lambda text: None
    asked: list[tuple[str, Text]] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    async def answer(self, batch: Batch, body: bytes) -> LineAnswer:
        text = json.loads(body)["messages"][0]["content"]
        self.asked.append((batch.resource_id, text))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(0)
            if (error := self.fails(text)) is not None:
                raise error
        finally:
            self.running -= 1
        return LineAnswer(200, json.dumps({"said": text}).encode(), Usage(3, 2, 1))

    def refusal(self, batch: Batch, error: LuthierError) -> LineAnswer:
        status = 500 if isinstance(error, UpstreamFailed) else 400
        return LineAnswer(status, json.dumps({"error": {"code": error.code}}).encode())

    def check_model(self, batch: Batch, model: str) -> None:
        if model != BASE:
            raise NotFound("model_not_found", "There is no such model.")

    def counts(self) -> Counter[str]:
        return Counter(text for _, text in self.asked)


def make_batch(context: Context, lines: list[dict[str, Any]], resource_id: str = DEFAULT_RESOURCE) -> str:
    blob = context.blobs.put(files.blob_key(f"file-{context.new_hex()}"), [jsonl(lines)])
    file = files.create(context, resource_id, "requests.jsonl", "batch", blob)
    request = BatchRequest("openai", CHAT, file.id, None, None)
    return batches.create(context, resource_id, request).id


def lines_of(n: int) -> list[dict[str, Any]]:
    return [chat(f"id {number}", f"text {number}") for number in range(n)]


def output(context: Context, batch_id: str, resource_id: str = DEFAULT_RESOURCE) -> tuple[Batch, Any, Any]:
    """The batch, and by custom_id the lines of its output file and of its error file; none twice."""
    batch = batches.get(context, resource_id, batch_id)
    found: list[Any] = []
    for file_id in (batch.output_file, batch.error_file):
        text = b"" if file_id is None else b"".join(files.content(context, files.get(context, resource_id, file_id)))
        lines = [json.loads(line) for line in text.splitlines()]
        by_id = {line["custom_id"]: line for line in lines}
        assert len(by_id) == len(lines)
        found.append(by_id)
    assert not set(found[0]) & set(found[1])
    return batch, found[0], found[1]


@dataclass
class HandClock:
    time: datetime

    def now(self) -> datetime:
        return self.time


def test_call_that_may_succeed_later_is_asked_again_and_is_no_error_of_the_line(context: Context) -> None:
    left = {"text 1": 3, "text 4": 2}

    def fails(text: Text) -> Exception | None:
        if not left.get(text):
            return None
        left[text] -= 1
        busy = RateLimited("rate_limit_exceeded", "Later.", 0.01)
        return busy if left[text] % 2 else Unavailable("engine_gone", "It starts anew.", retry_after_s=0.01)

    calls = Calls(fails)
    batch_id = make_batch(context, lines_of(8))
    batch_runs.work(context, lambda: calls)
    batch, done, failed = output(context, batch_id)
    assert (batch.status, len(done), failed) == (BatchStatus.COMPLETED, 8, {})
    assert calls.counts() == Counter({f"text {n}": 1 for n in range(8)}) + Counter({"text 1": 3, "text 4": 2})
    assert (batch.counts.input_tokens, batch.counts.cached_tokens, batch.counts.output_tokens) == (24, 8, 16)


def test_engine_that_fails_at_a_line_three_times_and_a_bug_are_the_lines_answer(
    context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    errors: dict[str, Exception] = {
        "text 1": UpstreamFailed("engine_failed", "It failed."),
        "text 2": ZeroDivisionError("private words"),
        "text 3": InvalidRequest("invalid_value", "No."),
    }
    calls = Calls(errors.get)
    batch_id = make_batch(context, lines_of(5))
    batch_runs.work(context, lambda: calls)
    batch, _, failed = output(context, batch_id)
    assert (batch.status, batch.counts.completed, batch.counts.failed) == (BatchStatus.COMPLETED, 2, 3)
    assert {id: line["response"]["body"]["error"]["code"] for id, line in failed.items()} == {
        "id 1": "engine_failed",
        "id 2": "internal_error",
        "id 3": "invalid_value",
    }
    assert [failed[f"id {n}"]["response"]["status_code"] for n in (1, 2, 3)] == [500, 500, 400]
    assert (calls.counts()["text 1"], calls.counts()["text 2"]) == (3, 1)
    assert "private" not in caplog.text


def test_batch_whose_window_is_over_has_its_answers_and_an_error_for_every_other_line(context: Context) -> None:
    clock = HandClock(context.now())
    context = replace(context, now=clock.now)

    def fails(text: Text) -> Exception | None:
        return None if int(text.split()[1]) < 4 else Unavailable("engine_gone", "It is gone.")

    calls = Calls(fails)
    batch_id = make_batch(context, lines_of(10))

    def first_are_answered() -> bool:
        return {f"text {n}" for n in range(10)} <= set(calls.counts())

    batch_runs.work(context, lambda: calls, first_are_answered)
    clock.time += timedelta(hours=23, minutes=59)
    batch_runs.work(context, lambda: calls, lambda: len(calls.asked) > 20)
    assert batches.get(context, DEFAULT_RESOURCE, batch_id).status is BatchStatus.IN_PROGRESS
    clock.time += timedelta(minutes=1)
    batch_runs.work(context, lambda: calls)
    batch, done, failed = output(context, batch_id)
    assert batch.status is BatchStatus.EXPIRED
    assert batch.expired_at == batch.finalizing_at == clock.time
    assert sorted(done) == [f"id {n}" for n in range(4)]
    assert sorted(failed) == [f"id {n}" for n in range(4, 10)]
    assert {line["error"]["code"] for line in failed.values()} == {"batch_expired"}
    assert (batch.total, batch.counts.completed, batch.counts.failed) == (10, 4, 6)


def test_batch_that_expires_while_the_runner_works_on_it_ends(context: Context) -> None:
    clock = HandClock(context.now())
    context = replace(context, now=clock.now)
    batch_id = make_batch(context, lines_of(3))

    def fails(text: Text) -> Exception | None:
        clock.time += timedelta(hours=25)
        return Unavailable("engine_gone", "It is gone.")

    batch_runs.work(context, lambda: Calls(fails))
    batch, done, failed = output(context, batch_id)
    assert (batch.status, len(done), len(failed)) == (BatchStatus.EXPIRED, 0, 3)


def test_resources_take_turns_and_only_so_many_lines_are_in_progress(context: Context) -> None:
    with context.database.writing() as tx:
        resources.insert_resource(tx, Resource(OTHER, "s", "g", OTHER), context.now())
    many = [make_batch(context, lines_of(30)) for _ in range(2)]
    one = make_batch(context, lines_of(10), OTHER)
    calls = Calls()
    batch_runs.work(context, lambda: calls, lines_at_once=2)
    assert calls.most_running == 2
    others = [place for place, (resource_id, _) in enumerate(calls.asked) if resource_id == OTHER]
    assert others[-1] - others[0] <= 22  # every second one, not behind the sixty
    for batch_id, resource_id in ((many[0], DEFAULT_RESOURCE), (many[1], DEFAULT_RESOURCE), (one, OTHER)):
        assert output(context, batch_id, resource_id)[0].status is BatchStatus.COMPLETED


def test_batch_that_is_cancelled_before_its_file_was_checked_has_no_files(context: Context) -> None:
    batch_id = make_batch(context, [{"nonsense": True}])
    batches.cancel(context, DEFAULT_RESOURCE, batch_id)
    calls = Calls()
    batch_runs.work(context, lambda: calls)
    batch, *_ = output(context, batch_id)
    assert (batch.status, batch.output_file, batch.error_file, calls.asked) == (BatchStatus.CANCELLED, None, None, [])


def test_batch_of_a_deleted_resource_ends_without_a_trace(context: Context, serving: Serving) -> None:
    with context.database.writing() as tx:
        resources.insert_resource(tx, Resource(OTHER, "s", "g", OTHER), context.now())
    batch_id = make_batch(context, lines_of(20), OTHER)
    later = Unavailable("engine_gone", "It is gone.")
    calls = Calls(lambda text: None if text == "text 0" else later)
    batch_runs.work(context, lambda: calls, lambda: len(calls.asked) > 10)
    folder = batch_folder.of_batch(context, batch_id).path
    assert folder.is_dir()
    with context.database.writing() as tx:
        resources.set_deleted(tx, OTHER, context.now())
    batch_runs.work(context, lambda: calls, lambda: not folder.exists())
    resource_purge.purge_deleted(context, serving)
    with context.database.reading() as tx:
        assert resources.get(tx, OTHER) is None
        assert file_rows.list_ids(tx, OTHER) == []


def test_folder_that_was_lost_fails_the_batch_by_name(context: Context) -> None:
    batch_id = make_batch(context, lines_of(5))
    later = Unavailable("engine_gone", "It is gone.")
    calls = Calls(lambda text: later)
    batch_runs.work(context, lambda: calls, lambda: len(calls.asked) > 2)
    batch_folder.of_batch(context, batch_id).remove()
    batch_runs.work(context, lambda: calls)
    batch = batches.get(context, DEFAULT_RESOURCE, batch_id)
    assert (batch.status, [fault.code for fault in batch.faults]) == (BatchStatus.FAILED, ["batch_lost"])


def test_answers_of_an_interrupted_run_stand_and_are_not_asked_for_again(context: Context) -> None:
    batch_id = make_batch(context, lines_of(12))
    later = Unavailable("engine_gone", "It is gone.")
    first = Calls(lambda text: None if int(text.split()[1]) < 5 else later)
    batch_runs.work(context, lambda: first, lambda: {f"text {n}" for n in range(12)} <= set(first.counts()))
    second = Calls()
    batch_runs.work(context, lambda: second)
    assert set(second.counts()) == {f"text {n}" for n in range(5, 12)}
    batch, done, _ = output(context, batch_id)
    assert (batch.status, len(done)) == (BatchStatus.COMPLETED, 12)


def test_batch_on_a_full_disk_waits_and_asks_again_only_for_what_was_in_progress(context: Context) -> None:
    batch_id = make_batch(context, [chat(f"id {n}", f"text {n} {'x' * 20_000}") for n in range(40)])
    journal = batch_folder.of_batch(context, batch_id).journal
    calls = Calls()
    batch_runs.work(context, lambda: calls, journal.exists)
    with full_disk(500_000):  # four answers may be written at once: the last that fit end above 500,000 less four
        batch_runs.work(context, lambda: calls, lambda: journal.stat().st_size > 500_000 - 4 * 21_000)
        asked = len(calls.asked)
        batch_runs.work(context, lambda: calls, lambda: len(calls.asked) > asked + 2)
    batch_runs.work(context, lambda: calls)
    batch, done, _ = output(context, batch_id)
    assert (batch.status, len(done)) == (BatchStatus.COMPLETED, 40)
    assert len(calls.asked) <= 40 + 3 * 4


def test_backoff_doubles_until_a_call_succeeds_and_waits_as_long_as_it_was_told() -> None:
    time = 100.0
    backoff = Backoff(1.0, 30.0, lambda: time)
    waits = []
    for _ in range(7):
        backoff.note_failure(None)
        backoff.note_failure(None)  # of another line, that was under way too
        waits.append(backoff.left_s)
        time += backoff.left_s
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    backoff.note_success()
    backoff.note_failure(12.0)
    assert backoff.left_s == 12.0
    backoff.note_failure(3600.0)
    assert backoff.left_s == 30.0
