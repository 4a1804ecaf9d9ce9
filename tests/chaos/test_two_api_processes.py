"""Two real API processes on one data folder: one rate limit; a response whose process is killed ends in the other."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

import split_processes
import tiny
from split_processes import Split
from waiting import until

pytestmark = [pytest.mark.story, pytest.mark.timeout(200)]
PER_MINUTE = 6
"""Requests, by the limit of a thousand tokens."""


@pytest.fixture
def split(tmp_path: Path) -> Iterator[Split]:
    made = split_processes.prepared(tmp_path, LUTHIER_MODEL_TOKENS="1000")
    yield made
    made.close()


def is_answered(client: OpenAI) -> bool:
    messages: Any = [{"role": "user", "content": "a"}]
    try:
        client.chat.completions.create(model=tiny.NAME, messages=messages, max_tokens=2)
    except openai.RateLimitError:
        return False
    return True


def test_rate_limit_and_background_responses_are_those_of_all_processes_together(split: Split) -> None:
    first, second = split.api(), split.api()
    clients = split.client(first), split.client(second)
    asked: Any = {"model": tiny.NAME, "input": "Tell a story.", "max_output_tokens": 200, "background": True}
    begun = clients[0].responses.create(**asked)  # the engine of this process starts
    first.end(signal.SIGKILL)
    until(lambda: clients[1].responses.retrieve(begun.id).status not in {"queued", "in_progress"}, 60)
    assert clients[1].responses.retrieve(begun.id).output_text
    third = split.client(split.api())
    answers = [is_answered(client) for _ in range(PER_MINUTE) for client in (clients[1], third)]
    assert sum(answers) == PER_MINUTE - 1, "one is of the response in the background"
