"""Responses in the background beside others: nobody's wait is another's, and who may follow one."""

import time
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response

from fakes import BASE, KEY, EchoEngine
from luthier.core.roles import Role
from luthier.service.context import Context
from luthier.service.tenants import keys
from luthier.service.tenants.keys import DEFAULT_RESOURCE
from waiting import until

ABSENT = "qwen3-8b"
"""A base model whose weights are not on this machine."""


def begin(client: OpenAI, **asked: Any) -> Response:
    answer = client.responses.create(**{"model": BASE, "input": "a", "background": True, **asked})
    assert isinstance(answer, Response)
    return answer


def status(client: OpenAI, begun: Response) -> str | None:
    return client.responses.retrieve(begun.id).status


def test_responses_of_a_model_that_is_not_there_hold_nobody_up(openai_client: OpenAI, engine: EchoEngine) -> None:
    with pytest.raises(openai.InternalServerError, match="not on this machine"):
        openai_client.responses.create(model=ABSENT, input="a")
    waiting = [begin(openai_client, model=ABSENT) for _ in range(6)]
    begun = begin(openai_client)
    until(lambda: status(openai_client, begun) == "completed", 10)
    assert {status(openai_client, one) for one in waiting} == {"queued"}
    for one in waiting:
        assert openai_client.responses.cancel(one.id).status == "cancelled"


def test_stream_says_its_id_while_the_response_waits_for_a_place(openai_client: OpenAI, engine: EchoEngine) -> None:
    engine.holds.set()
    held = [begin(openai_client) for _ in range(4)]
    until(lambda: len(engine.busy) == 4 or len(engine.asked) == 4, 10)
    with openai_client.responses.create(model=BASE, input="b", background=True, stream=True) as events:
        first, second = next(iter(events)), next(iter(events))
        assert [first.type, second.type] == ["response.created", "response.queued"]
        assert (first.response.status, first.response.model) == ("queued", BASE)
        engine.holds.clear()
        rest = list(events)
    assert [event.sequence_number for event in rest] == list(range(2, len(rest) + 2))
    assert [rest[0].type, rest[-1].type] == ["response.in_progress", "response.completed"]
    again: Any = openai_client.responses.retrieve(first.response.id, stream=True)
    assert [event.to_dict() for event in again] == [event.to_dict() for event in (first, second, *rest)]
    until(lambda: {status(openai_client, one) for one in held} == {"completed"}, 10)


@pytest.mark.parametrize("follows", [False, True], ids=("created", "followed"))
def test_lost_key_ends_the_stream_and_not_the_response(
    url: str, context: Context, openai_client: OpenAI, engine: EchoEngine, follows: bool
) -> None:
    text = keys.create(context, DEFAULT_RESOURCE.id, "other", Role.OWNER)
    other = OpenAI(base_url=f"{url}/v1", api_key=text, max_retries=0)
    engine.holds.set()
    events: Any = other.responses.create(model=BASE, input="a", background=True, stream=True)
    first = next(events)
    if follows:
        events.close()
        events = other.responses.retrieve(first.response.id, stream=True)
    keys.revoke(context, DEFAULT_RESOURCE.id, "other")
    began = time.monotonic()
    assert "response.completed" not in [event.type for event in events]
    assert time.monotonic() - began < 5
    engine.holds.clear()
    until(lambda: openai_client.responses.retrieve(first.response.id).status == "completed", 10)


def test_number_before_the_first_event_is_the_whole_stream_and_a_lower_one_a_400(
    url: str, openai_client: OpenAI
) -> None:
    *_, last = openai_client.responses.create(model=BASE, input="a", background=True, stream=True)
    begun: Any = last.response
    address, headers = f"{url}/v1/responses/{begun.id}", {"api-key": KEY}
    whole = httpx2.get(address, params={"stream": "true"}, headers=headers)
    assert whole.text.startswith("event: response.created")
    asked: dict[str, Any] = {"stream": "true", "starting_after": -1}
    assert httpx2.get(address, params=asked, headers=headers).text == whole.text
    refused = httpx2.get(address, params={**asked, "starting_after": -2}, headers=headers)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "starting_after")
    beyond = httpx2.get(address, params={**asked, "starting_after": 10**30}, headers=headers)
    assert (beyond.status_code, beyond.text) == (200, "")
