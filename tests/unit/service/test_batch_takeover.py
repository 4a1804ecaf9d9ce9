"""Batches of a supervisor that was paused and wakes: what it still does harms nothing that its successor does."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import msgspec

import batch_runs
from batch_runs import CHAT, chat, jsonl
from luthier.core.errors import LuthierError
from luthier.core.ids import DEFAULT_RESOURCE
from luthier.core.inference.batches import Batch
from luthier.core.states import BatchStatus
from luthier.service.batches import batch_folder, batches
from luthier.service.batches.batches import BatchRequest
from luthier.service.batches.journal import AnswerKind, Journal, Record
from luthier.service.batches.line_calls import LineAnswer
from luthier.service.batches.runner import BatchRunner
from luthier.service.context import Context
from luthier.service.files import files
from luthier.store.db import Connection
from luthier.store.fencing.fenced_database import FencedDatabase
from luthier.store.queries.leasing import leases
from luthier.store.queries.leasing.leases import Lease

N_LINES = 40
TTL = timedelta(seconds=60)


@dataclass
class Calls:
    """Answers each line by its own text, all of one length, a line of each runner in turn."""

    asked: list[str] = field(default_factory=list)

    async def answer(self, batch: Batch, body: bytes) -> LineAnswer:
        text = json.loads(body)["messages"][0]["content"]
        self.asked.append(text)
        await asyncio.sleep(0.005)
        return LineAnswer(200, json.dumps({"said": text}).encode())

    def refusal(self, batch: Batch, error: LuthierError) -> LineAnswer:
        raise AssertionError("no line is refused")

    def check_model(self, batch: Batch, model: str) -> None:
        return


def make_batch(context: Context) -> str:
    lines = [chat(f"id {number:03}", f"text {number:03}") for number in range(N_LINES)]
    blob = context.blobs.put(files.blob_key(f"file-{context.new_hex()}"), [jsonl(lines)])
    file = files.create(context, DEFAULT_RESOURCE, "requests.jsonl", "batch", blob)
    return batches.create(context, DEFAULT_RESOURCE, BatchRequest("openai", CHAT, file.id, None, None)).id


def lease_of(context: Context, holder: str) -> Lease:
    """The lease of a new supervisor, who takes it from whoever has it."""
    with context.database.writing() as tx:
        held = leases.get(tx, "supervisor")
        lease = leases.take(tx, "supervisor", holder, TTL, gone=None if held is None else held.lease.holder)
    assert lease is not None
    return lease


def supervising(context: Context, holder: str) -> Context:
    """The context of a new supervisor."""
    return replace(context, database=FencedDatabase(context.database, lease_of(context, holder)))


def runner_of(context: Context) -> BatchRunner:
    return BatchRunner(context, 2, tick_s=0.02, idle_tick_s=0.02, first_backoff_s=0.01)


def answers(context: Context, batch_id: str) -> list[tuple[str, str]]:
    """The custom_id and the answer of each line of the output file, in its order."""
    batch = batches.get(context, DEFAULT_RESOURCE, batch_id)
    assert (batch.status, batch.error_file) == (BatchStatus.COMPLETED, None)
    assert batch.output_file is not None
    text = b"".join(files.content(context, files.get(context, DEFAULT_RESOURCE, batch.output_file)))
    lines = [json.loads(line) for line in text.splitlines()]
    return [(line["custom_id"], line["response"]["body"]["said"]) for line in lines]


def test_every_line_is_answered_once_though_the_former_supervisor_goes_on_beside_the_new_one(context: Context) -> None:
    batch_id = make_batch(context)
    first, second = Calls(), Calls()

    def has_ended() -> bool:
        return batches.get(context, DEFAULT_RESOURCE, batch_id).status is BatchStatus.COMPLETED

    async def run() -> None:
        former = runner_of(supervising(context, "former"))
        former.start(first)
        async with asyncio.timeout(batch_runs.PATIENCE_S):
            while len(first.asked) < 4:
                await asyncio.sleep(0.01)
            successor = runner_of(supervising(context, "successor"))
            successor.start(second)
            while not has_ended():
                await asyncio.sleep(0.01)
        await successor.stop()
        await former.stop()

    asyncio.run(run())
    assert len(second.asked) > 4, "both have worked"
    assert answers(context, batch_id) == [(f"id {number:03}", f"text {number:03}") for number in range(N_LINES)]


def record(index: int) -> Record:
    return Record(index, AnswerKind.COMPLETED, msgspec.Raw(json.dumps({"said": index}).encode()))


def test_journal_that_two_processes_append_to_gives_each_answer_to_its_own_line(context: Context) -> None:
    folder = batch_folder.of_batch(context, "batch_1")
    folder.path.mkdir(parents=True)
    one, other = Journal.open(folder.journal), Journal.open(folder.journal)
    one.append([record(1)])
    other.append([record(2)])
    one.append([record(2), record(3)])
    other.append([record(4)])
    for journal in (other, Journal.open(folder.journal)):
        assert [json.loads(bytes(journal.read(index).line))["said"] for index in (1, 2, 3, 4)] == [1, 2, 3, 4]
        assert journal.counts.completed == 4


class Meanwhile(FencedDatabase):
    """A database whose first reader is paused right behind its read, while another process begins a batch."""

    begin: Callable[[], object] | None = None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with super().reading() as tx:
            yield tx
        if self.begin is not None:
            self.begin()
            self.begin = None


def test_folder_of_a_batch_that_was_begun_while_the_runner_was_paused_is_not_removed(context: Context) -> None:
    ended, begun = (batch_folder.of_batch(context, batch_id).path for batch_id in ("batch_ended", "batch_begun"))
    ended.mkdir(parents=True)
    database = Meanwhile(context.database, lease_of(context, "former"))
    database.begin = begun.mkdir

    async def run() -> None:
        runner = BatchRunner(replace(context, database=database), 2, idle_tick_s=60)
        runner.start(Calls())
        async with asyncio.timeout(batch_runs.PATIENCE_S):
            while ended.exists():
                await asyncio.sleep(0.01)
        await runner.stop()

    asyncio.run(run())
    assert begun.exists()
