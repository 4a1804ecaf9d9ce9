"""A service that is killed in the middle: conversations go on after it, and responses in the background end."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from running import KEY, Running

BASE = "smollm2-135m-instruct"
pytestmark = [pytest.mark.story, pytest.mark.timeout(300)]


@pytest.fixture
def service(tmp_path: Path, base_folder: Path) -> Iterator[Running]:
    running = Running(tmp_path / "data", base_folder.parent)
    running.data.mkdir()
    running.start()
    yield running
    running.close()


def client(service: Running) -> OpenAI:
    return OpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=0, _strict_response_validation=True)


def test_conversation_and_background_survive_kills(service: Running) -> None:
    asked: Any = {
        "model": BASE,
        "input": "Tell me a long story about a violin.",
        "temperature": 0,
        "max_output_tokens": 120,
    }
    first = client(service).responses.create(model=BASE, input="My name is Ada.", temperature=0, max_output_tokens=20)
    expected = client(service).responses.create(**asked, store=False)
    begun = client(service).responses.create(**asked, background=True)
    for _ in range(3):
        time.sleep(0.4)
        service.kill()
        service.start()
        assert client(service).responses.retrieve(begun.id).status in ("queued", "in_progress", "completed")
    api = client(service)
    deadline = time.monotonic() + 120
    while (answer := api.responses.retrieve(begun.id)).status in ("queued", "in_progress"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert answer.status == expected.status
    assert answer.output_text == expected.output_text
    assert api.responses.retrieve(first.id) == first
    second = api.responses.create(
        model=BASE, input="What is my name?", previous_response_id=first.id, temperature=0, max_output_tokens=20
    )
    given: list[Any] = list(api.responses.input_items.list(second.id, order="asc"))
    items = [item.content[0].text for item in given]
    assert items == ["My name is Ada.", first.output_text, "What is my name?"]
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.total_tokens
