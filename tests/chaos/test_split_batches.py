"""Batches of several processes: the supervisor answers them; killed or paused, the next one goes on, each line once."""

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

import batch_runs
import split_processes
import tiny
from luthier.processes.shared_parts import SUPERSEDED
from split_processes import Split
from waiting import until
from webhook_receiver import Receiver, receiving

pytestmark = [pytest.mark.story, pytest.mark.timeout(300)]
N_LINES = 400


@pytest.fixture
def split(tmp_path: Path) -> Iterator[Split]:
    made = split_processes.prepared(tmp_path, LUTHIER_IMPORT_ALLOW="127.0.0.0/8", LUTHIER_IMPORT_HTTP="true")
    yield made
    made.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def create_batch(client: OpenAI) -> str:
    lines = [
        batch_runs.chat(f"line {number}", "Tell a story.", tiny.NAME, max_tokens=100, temperature=1, seed=number)
        for number in range(N_LINES)
    ]
    file = batch_runs.upload(client, lines)
    return client.batches.create(input_file_id=file, endpoint=batch_runs.CHAT, completion_window="24h").id


def subscribe(client: OpenAI, receiver: Receiver) -> str:
    """An endpoint at the receiver for ended batches; its secret."""
    url = f"http://127.0.0.1:{receiver.port}/hook"
    return client.webhooks.create(name="n", url=url, event_types=["batch.completed"]).signing_secret


def answered(split: Split, batch_id: str) -> int:
    """How many answers are in the journal; none before the first, and once the batch has ended."""
    journal = split.data / "batches" / batch_id / "answers.journal"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def test_batch_goes_on_behind_the_last_answer_whoever_supervises_and_is_told_of_once(
    split: Split, receiver: Receiver
) -> None:
    client, other = split.client(split.api()), split.client(split.api())
    secret = subscribe(other, receiver)
    killed, paused = split.supervisor(), split.supervisor("Waiting")
    batch_id = create_batch(client)
    until(lambda: answered(split, batch_id) >= 5, 60)
    killed.end(signal.SIGKILL)
    assert paused.line().startswith("Supervising")
    before = answered(split, batch_id)
    until(lambda: answered(split, batch_id) >= before + 5, 60)
    paused.popen.send_signal(signal.SIGSTOP)
    last = split.supervisor()
    until(lambda: answered(split, batch_id) >= before + 15, 60)
    assert paused.end(signal.SIGCONT) == SUPERSEDED
    until(lambda: other.batches.retrieve(batch_id).status == "completed", 60)
    batch: Any = other.batches.retrieve(batch_id)
    lines = batch_runs.content(other, batch.output_file_id)
    assert Counter(line["custom_id"] for line in lines) == Counter(f"line {number}" for number in range(N_LINES))
    assert len({line["id"] for line in lines}) == N_LINES
    assert (batch.request_counts.completed, batch.request_counts.failed) == (N_LINES, 0)
    until(lambda: len(receiver.posted) > 0, 20)
    assert last.end(signal.SIGTERM) == 0
    assert {(posted.unwrap(secret).data.id, posted.id) for posted in receiver.posted} == {
        (batch_id, receiver.posted[0].id)
    }
