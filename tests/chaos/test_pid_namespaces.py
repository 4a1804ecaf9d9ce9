"""A service in several pid namespaces, as in containers without common pids: who lives is not taken for dead, and who
is dead not for alive.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from openai import OpenAI

import rows
import split_processes
import tiny
from running import KEY
from split_processes import Process, Split, create_job, ended_job, step_of
from waiting import until

pytestmark = [pytest.mark.story, pytest.mark.timeout(300)]
EPOCHS = 12
_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
_BEFORE = (*_NAMESPACE, "sh", "-c", '"$@" & wait; exec sleep 1000', "sh")
"""A process with a namespace of its own pids, in which the shell is the first: what it started outlives its end."""


def _reason() -> str | None:
    if os.getuid() != 0 or shutil.which("unshare") is None:
        return "needs root and unshare (util-linux)"
    made = subprocess.run([*_NAMESPACE, "true"], capture_output=True, check=False)
    return None if made.returncode == 0 else "no pid namespace may be made here"


@pytest.fixture
def split(tmp_path: Path) -> Iterator[Split]:
    if (reason := _reason()) is not None:
        pytest.skip(reason)
    made = split_processes.prepared(tmp_path)
    made.before = _BEFORE
    yield made
    made.close()


def luthier_of(process: Process) -> psutil.Process:
    """The process of luthier itself, as the test's namespace calls it."""
    (shell,) = psutil.Process(process.popen.pid).children()
    return shell.children()[0]


def attempts(api: Process, job_id: str) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = httpx2.get(f"{api.url}/v1/fine_tuning/jobs/{job_id}/attempts", headers=headers)
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def test_trainer_that_outlives_its_supervisor_is_followed_and_one_that_died_with_it_is_replaced(split: Split) -> None:
    api = split.api()
    client = split.client(api)
    file = client.files.create(file=("rows.jsonl", rows.good(20)), purpose="fine-tune").id
    first, second = split.supervisor(), split.supervisor("Waiting")
    job_id = create_job(client, file, EPOCHS)
    until(lambda: step_of(client, job_id) >= 5, 60)
    os.kill(luthier_of(first).pid, signal.SIGKILL)
    assert second.line().startswith("Supervising")
    seen = step_of(client, job_id)
    until(lambda: step_of(client, job_id) > seen, 60)
    assert len(attempts(api, job_id)) == 1, "the trainer lives, though the new supervisor cannot see its pid"
    first.end(signal.SIGKILL)  # and with it its namespace, the trainer too
    job = ended_job(client, job_id)
    assert len(attempts(api, job_id)) == 2
    assert job.fine_tuned_model


def is_over(client: OpenAI, response_id: str) -> bool:
    return client.responses.retrieve(response_id).status not in {"queued", "in_progress"}


def test_response_of_an_api_process_that_lives_is_left_to_it_and_of_a_dead_one_taken_over(split: Split) -> None:
    first, second = split.api(), split.api()
    clients: list[OpenAI] = [split.client(first), split.client(second)]
    asked: Any = {"model": tiny.NAME, "input": "Tell a story.", "max_output_tokens": 400, "background": True}
    alone = clients[0].responses.create(**asked).id  # the engine starts meanwhile, longer than a look takes
    until(lambda: is_over(clients[1], alone), 60)
    assert "responses taken over" not in split.log(), "the first process lives, though nobody can see its pid"
    begun = [clients[0].responses.create(**asked).id for _ in range(40)]
    first.end(signal.SIGKILL)
    for response_id in begun:
        until(partial(is_over, clients[1], response_id), 60)
    assert "responses taken over" in split.log()
