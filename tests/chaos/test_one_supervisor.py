"""One supervisor at a time: killed or paused in the middle of a job, another one takes over, and the first is out."""

import signal
from collections.abc import Iterator

import pytest
from openai import OpenAI

import rows
import split_processes
from luthier.processes.shared_parts import SUPERSEDED
from split_processes import Split, bytes_of, create_job, ended_job, step_of
from waiting import until

pytestmark = [pytest.mark.story, pytest.mark.timeout(300)]
EPOCHS = 4
Expected = tuple[dict[int, str], bytes]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Split]:
    made = split_processes.prepared(tmp_path_factory.mktemp("split"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(split: Split) -> OpenAI:
    return split.client(split.api())


@pytest.fixture(scope="module")
def file(client: OpenAI) -> str:
    return client.files.create(file=("rows.jsonl", rows.good(20)), purpose="fine-tune").id


@pytest.fixture(scope="module")
def expected(split: Split, client: OpenAI, file: str) -> Expected:
    """What an undisturbed run leaves."""
    supervisor = split.supervisor()
    job = ended_job(client, create_job(client, file, EPOCHS))
    assert supervisor.end(signal.SIGTERM) == 0
    return bytes_of(split, client, job)


def test_supervisor_that_is_killed_is_followed_at_once_and_the_job_ends_in_the_same_bytes(
    split: Split, client: OpenAI, file: str, expected: Expected
) -> None:
    first = split.supervisor()
    second = split.supervisor("Waiting: the supervisor is process")
    job_id = create_job(client, file, EPOCHS)
    until(lambda: step_of(client, job_id) >= 5, 60)
    first.end(signal.SIGKILL)
    assert second.line().startswith("Supervising")
    assert bytes_of(split, client, ended_job(client, job_id)) == expected
    messages = [event.message for event in client.fine_tuning.jobs.list_events(job_id, limit=100)]
    assert len(messages) == len(set(messages)), "no event comes twice"
    assert second.end(signal.SIGTERM) == 0


def test_supervisor_that_was_paused_writes_nothing_once_it_wakes_and_ends(
    split: Split, client: OpenAI, file: str, expected: Expected
) -> None:
    first = split.supervisor()
    second = split.supervisor("Waiting")
    job_id = create_job(client, file, EPOCHS)
    until(lambda: step_of(client, job_id) >= 5, 60)
    first.popen.send_signal(signal.SIGSTOP)
    assert second.line().startswith("Supervising")
    assert bytes_of(split, client, ended_job(client, job_id)) == expected
    until(lambda: not any((split.data / "runs").iterdir()), 20)
    assert second.end(signal.SIGTERM) == 0
    before = split.rows()
    assert first.end(signal.SIGCONT) == SUPERSEDED
    assert split.rows() == before
    assert "lease lost name=supervisor" in split.log()
    assert bytes_of(split, client, client.fine_tuning.jobs.retrieve(job_id)) == expected


def test_serve_with_a_supervisor_is_refused_on_a_folder_that_is_shared(split: Split, client: OpenAI) -> None:
    with pytest.raises(AssertionError, match="is in use by process"):
        split._start("never", "serve", "--port", "0")
