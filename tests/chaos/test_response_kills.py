"""A service that is killed or whose disk fills up: conversations go on after it, background responses end."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from running import KEY, Running
from waiting import until

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


def test_answer_that_finds_a_full_disk_is_stored_once_there_is_room(
    disk: Path, tmp_path: Path, base_folder: Path
) -> None:
    service = Running(tmp_path / "data", base_folder.parent)
    service.data.symlink_to(disk)  # the service's log is beside it, where there is room
    service.start()
    try:
        api = client(service)
        api.responses.create(model=BASE, input="a", max_output_tokens=1)  # the engine has started
        begun = api.responses.create(model=BASE, input="Tell a story.", background=True, max_output_tokens=200)
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as stream, suppress(OSError):
            while True:
                stream.write(b"x" * 4096)
        text: Any = {"format": {"type": "json_schema", "name": "a", "schema": {}, "description": "d" * 2_000_000}}
        unstored = api.responses.create(model=BASE, input="a", text=text, max_output_tokens=2)
        assert unstored.to_dict()["store"] is False
        with pytest.raises(openai.InternalServerError, match="Make room"):
            api.responses.create(model=BASE, input="a", text=text, background=True)
        time.sleep(4)  # the answer is complete by then, and cannot be stored
        assert api.responses.retrieve(begun.id).status in ("queued", "in_progress")
        filler.unlink()
        until(lambda: api.responses.retrieve(begun.id).status in ("completed", "incomplete"), 60)
    finally:
        service.close()
