"""kill -9 of the service in the middle of batches: every line is answered once, whatever was in progress."""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from openai import OpenAI

import batch_runs
from running import KEY, Running
from waiting import until

BASE = "smollm2-135m-instruct"
pytestmark = [pytest.mark.story, pytest.mark.timeout(3000)]


@pytest.fixture
def service(tmp_path: Path, base_folder: Path) -> Iterator[Running]:
    running = Running(tmp_path / "data", base_folder.parent)
    running.data.mkdir()
    running.start()
    yield running
    running.close()


def client_of(service: Running) -> OpenAI:
    return OpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=5, _strict_response_validation=True)


def batch_of(service: Running, n_lines: int) -> str:
    """A batch of short lines, some of which no live route would take."""
    lines = [
        batch_runs.chat(f"line {number}", f"Say {number}.", max_tokens=4, temperature=0 if number % 10 else 9)
        for number in range(n_lines)
    ]
    with client_of(service) as client:
        file_id = batch_runs.upload(client, lines)
        batch = client.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h")
    return batch.id


def status_of(service: Running, batch_id: str) -> str:
    with client_of(service) as client:
        return client.batches.retrieve(batch_id).status


def answered(service: Running, batch_id: str) -> int:
    """How many answers are in the journal; none once the batch has ended."""
    journal = service.data / "batches" / batch_id / "answers.journal"
    try:
        return journal.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def has_answered(service: Running, batch_id: str, wanted: int) -> bool:
    return answered(service, batch_id) >= wanted


def assert_every_line_is_answered_once(service: Running, batch_id: str, n_lines: int) -> None:
    with client_of(service) as client:
        batch = client.batches.retrieve(batch_id)
        assert batch.status == "completed"
        done = batch_runs.content(client, batch.output_file_id)
        failed = batch_runs.content(client, batch.error_file_id)
        files = [file.id for file in client.files.list(purpose="batch_output")]
    assert sorted(files) == sorted([str(batch.output_file_id), str(batch.error_file_id)])
    counts = Counter(line["custom_id"] for line in done + failed)
    assert counts == Counter(f"line {number}" for number in range(n_lines))
    assert {line["custom_id"] for line in failed} == {f"line {number}" for number in range(0, n_lines, 10)}
    assert {line["response"]["status_code"] for line in done} == {200}
    assert len({line["id"] for line in done + failed}) == n_lines
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (len(done), len(failed))
    assert not (service.data / "batches" / batch_id).exists()


def shot(service: Running, n_lines: int, kills: int, seed: int) -> None:
    """Kills the service so many times, each after a little more was answered; then lets the batch end."""
    chance = random.Random(seed)
    batch_id = batch_of(service, n_lines)
    for kill in range(kills):
        wanted = n_lines * kill // kills
        until(partial(has_answered, service, batch_id, wanted), 120)
        time.sleep(chance.uniform(0, 0.3))  # the fault itself: somewhere within a line, or between two
        service.kill()
        service.start()
    until(lambda: status_of(service, batch_id) == "completed", 300)
    assert_every_line_is_answered_once(service, batch_id, n_lines)


def test_service_that_is_killed_in_the_middle_of_a_batch_answers_every_line_once(service: Running) -> None:
    shot(service, 60, 4, seed=1)


def test_kill_before_and_after_the_lines_loses_nothing(service: Running) -> None:
    """While the file is being checked, and while the last lines become files."""
    batch_id = batch_of(service, 20)
    service.kill()
    service.start()
    until(lambda: answered(service, batch_id) >= 19 or status_of(service, batch_id) != "in_progress", 120)
    service.kill()
    service.start()
    until(lambda: status_of(service, batch_id) == "completed", 120)
    assert_every_line_is_answered_once(service, batch_id, 20)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(10))
def test_service_that_is_killed_many_times_answers_every_line_once(service: Running, seed: int) -> None:
    shot(service, 200, 12, seed)


def test_journal_holds_no_more_than_was_synced(service: Running) -> None:
    """What a kill leaves behind the last whole line is cut off, and that line is answered again."""
    batch_id = batch_of(service, 30)
    until(lambda: answered(service, batch_id) >= 5, 120)
    service.kill()
    journal = service.data / "batches" / batch_id / "answers.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])
    assert json.loads(whole.splitlines()[-1][9:])["kind"] in {"completed", "failed"}
    service.start()
    until(lambda: status_of(service, batch_id) == "completed", 120)
    assert_every_line_is_answered_once(service, batch_id, 30)
