"""Stored responses: conversations that continue, what is told of them, and what another tenant sees."""

import json
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response
from sqlalchemy import bindparam, update

from asgi_switch import Switch
from fakes import BASE, KEY, EchoEngine, engine_calls
from luthier.api import server
from luthier.api.services import Services
from luthier.service.background import expiry
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.service.tenants import resources
from luthier.store import inference_schema

_responses = inference_schema.responses


@pytest.fixture
def stranger(url: str, context: Context) -> OpenAI:
    """A client of another resource."""
    _, texts = resources.create(context, "other", None, None)
    return OpenAI(base_url=f"{url}/v1", api_key=texts[0], max_retries=0)


def ask(client: OpenAI, text: str, **asked: Any) -> Response:
    answer = client.responses.create(model=BASE, input=text, **asked)
    assert isinstance(answer, Response)
    return answer


def turns(engine: EchoEngine) -> list[str]:
    return [turn["content"] for turn in engine.asked[-1]["messages"]]


def ended(client: OpenAI, response_id: str) -> Response:
    """The response once it has an answer."""
    deadline = time.monotonic() + 20
    while (answer := client.responses.retrieve(response_id)).status in ("queued", "in_progress"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return answer


def test_conversation_continues_by_the_id_of_its_last_answer(openai_client: OpenAI, engine: EchoEngine) -> None:
    engine.says = ["one", "two", "three"]
    first = ask(openai_client, "a", instructions="Be brief.")
    second = ask(openai_client, "b", previous_response_id=first.id)
    ask(openai_client, "c", previous_response_id=second.id, instructions="Be long.")
    assert turns(engine) == ["Be long.", "a", "one", "b", "two", "c"]
    engine.says = ["other"]
    ask(openai_client, "d", previous_response_id=first.id)
    assert turns(engine) == ["a", "one", "d"], "a conversation forks where it is continued twice"


def test_items_of_an_answer_are_taken_back_as_they_were_given(openai_client: OpenAI, engine: EchoEngine) -> None:
    engine.says = ["one"]
    first = ask(openai_client, "a")
    history: Any = [{"role": "user", "content": "a"}, *[item.to_dict() for item in first.output]]
    openai_client.responses.create(model=BASE, input=[*history, {"role": "developer", "content": "b"}], store=False)
    assert turns(engine) == ["a", "one", "b"]
    assert engine.asked[-1]["messages"][-1]["role"] == "system"
    reference: Any = {"type": "item_reference", "id": first.output[0].id}
    openai_client.responses.create(model=BASE, input=[{"role": "user", "content": "a"}, reference])
    assert turns(engine) == ["a", "one"]


def test_input_items_hold_the_whole_conversation_by_pages(openai_client: OpenAI, engine: EchoEngine) -> None:
    engine.says = ["one", "two"]
    first = ask(openai_client, "a")
    second = ask(openai_client, "b", previous_response_id=first.id)
    newest = openai_client.responses.input_items.list(second.id)
    items: list[Any] = list(newest)
    assert [item.content[0].text for item in items] == ["b", "one", "a"]
    assert [item.role for item in items] == ["user", "assistant", "user"]
    assert len({item.id for item in items}) == 3
    page = openai_client.responses.input_items.list(second.id, limit=1, order="asc")
    assert page.has_next_page()
    assert [item.content[0].text for item in page] == ["a", "one", "b"]
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.responses.input_items.list(second.id, after="msg_nothing")
    assert caught.value.param == "after"


def test_items_with_the_same_id_are_listed_to_their_end(openai_client: OpenAI, engine: EchoEngine) -> None:
    twice: Any = [{"role": "user", "content": text, "id": "msg_same", "type": "message"} for text in ("a", "b", "c")]
    answer = openai_client.responses.create(model=BASE, input=twice)
    again = openai_client.responses.create(model=BASE, input=twice[:1], previous_response_id=answer.id)
    pages: Any = openai_client.responses.input_items.list(again.id, limit=1, order="asc")
    texts = [item.content[0].text for item, _ in zip(pages, range(9), strict=False) if item.role == "user"]
    assert texts == ["a", "b", "c", "a"]


def test_service_that_keeps_nothing_says_so(
    url: str, switch: tuple[Switch, str], context: Context, serving: Serving, openai_client: OpenAI
) -> None:
    forgetful = replace(context, responses_kept_for=timedelta(0))
    switch[0].app = server.build(Services(forgetful, serving, lambda: None, calls=engine_calls()), None)
    answer = ask(openai_client, "a", store=True)
    assert answer.to_dict()["store"] is False
    with pytest.raises(openai.NotFoundError):
        openai_client.responses.retrieve(answer.id)
    with pytest.raises(openai.BadRequestError) as caught:
        ask(openai_client, "a", background=True)
    assert caught.value.param == "background"


def test_deleted_response_is_gone_and_so_is_what_it_would_continue(openai_client: OpenAI, engine: EchoEngine) -> None:
    first = ask(openai_client, "secret word")
    second = ask(openai_client, "b", previous_response_id=first.id)
    openai_client.responses.delete(first.id)
    for call in (openai_client.responses.retrieve, openai_client.responses.delete, openai_client.responses.cancel):
        with pytest.raises(openai.NotFoundError) as caught:
            call(first.id)
        assert first.id in caught.value.message
    with pytest.raises(openai.BadRequestError, match="was deleted") as refused:
        ask(openai_client, "c", previous_response_id=second.id)
    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")


def test_response_that_is_not_stored_cannot_be_got_or_continued(openai_client: OpenAI) -> None:
    answer = ask(openai_client, "a", store=False)
    assert answer.to_dict()["store"] is False
    with pytest.raises(openai.NotFoundError):
        openai_client.responses.retrieve(answer.id)
    with pytest.raises(openai.BadRequestError, match=answer.id):
        ask(openai_client, "b", previous_response_id=answer.id)
    reference: Any = {"type": "item_reference", "id": answer.output[0].id}
    with pytest.raises(openai.NotFoundError) as caught:
        openai_client.responses.create(model=BASE, input=[reference])
    assert caught.value.param == "input[0].id"


def test_response_of_another_tenant_is_as_one_that_never_was(openai_client: OpenAI, stranger: OpenAI) -> None:
    answer = ask(openai_client, "a")
    never = f"resp_{'0' * 32}"
    for use in (
        stranger.responses.retrieve,
        stranger.responses.delete,
        stranger.responses.cancel,
        stranger.responses.input_items.list,
        lambda id: ask(stranger, "b", previous_response_id=id),
        lambda id: stranger.responses.create(
            model=BASE, input=[{"type": "item_reference", "id": id.replace("resp_", "msg_") + "0000"}]
        ),
    ):
        seen = []
        for id in (answer.id, never):
            with pytest.raises(openai.APIStatusError) as caught:
                use(id)
            seen.append((caught.value.status_code, caught.value.message.replace(id.removeprefix("resp_"), "ID")))
        assert seen[0] == seen[1]
    assert openai_client.responses.retrieve(answer.id) == answer


def test_conversation_expires_as_a_whole(openai_client: OpenAI, context: Context) -> None:
    first = ask(openai_client, "a")
    second = ask(openai_client, "b", previous_response_id=first.id)

    def expire(days: float) -> None:
        later = context.now() + timedelta(days=days)
        expiry.remove_expired(replace(context, now=lambda: later))

    expire(29.9)
    assert openai_client.responses.retrieve(first.id) == first
    with context.database.writing() as tx:
        moved = {"created_at": context.now() - timedelta(days=20), "id_": first.id}
        tx.execute(update(_responses).where(_responses.c.id == bindparam("id_")), [moved])
    expire(15)
    assert ask(openai_client, "c", previous_response_id=second.id).status == "completed"
    for _ in range(3):
        expire(31)
    for id in (first.id, second.id):
        with pytest.raises(openai.NotFoundError):
            openai_client.responses.retrieve(id)


def test_response_in_the_background_is_answered_at_once_and_ends_by_itself(
    openai_client: OpenAI, engine: EchoEngine
) -> None:
    engine.says = ["late"]
    begun = ask(openai_client, "a", background=True)
    assert (begun.status, begun.background, begun.output) == ("queued", True, [])
    answer = ended(openai_client, begun.id)
    assert (answer.status, answer.output_text, answer.created_at) == ("completed", "late", begun.created_at)
    ask(openai_client, "b", previous_response_id=answer.id)
    assert turns(engine) == ["a", "late", "b"]
    with pytest.raises(openai.ConflictError):
        openai_client.responses.cancel(answer.id)


def test_response_in_the_background_can_be_cancelled_and_not_be_continued(
    openai_client: OpenAI, engine: EchoEngine
) -> None:
    engine.holds.set()
    begun = ask(openai_client, "a", background=True)
    with pytest.raises(openai.BadRequestError, match="has no answer"):
        ask(openai_client, "b", previous_response_id=begun.id)
    for _ in range(2):
        assert openai_client.responses.cancel(begun.id).status == "cancelled"
    engine.holds.clear()
    time.sleep(0.1)
    assert openai_client.responses.retrieve(begun.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        openai_client.responses.cancel(ask(openai_client, "foreground").id)


def test_stream_of_the_background_goes_on_without_its_caller_and_is_taken_up_again(
    openai_client: OpenAI, url: str, engine: EchoEngine
) -> None:
    engine.says, engine.piece = ["a b c d e f"], 1
    with openai_client.responses.create(model=BASE, input="a", background=True, stream=True) as events:
        first = next(iter(events))
    assert first.type == "response.created"
    answer = ended(openai_client, first.response.id)
    assert answer.output_text == "a b c d e f"
    rest = list(openai_client.responses.retrieve(answer.id, stream=True, starting_after=0))
    assert [event.sequence_number for event in rest] == list(range(1, len(rest) + 1))
    assert rest[-1].type == "response.completed"
    foreground = ask(openai_client, "b")
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.responses.retrieve(foreground.id, stream=True)
    assert caught.value.code == "events_not_kept"


def test_failed_response_in_the_background_says_why(openai_client: OpenAI) -> None:
    answer = ended(openai_client, ask(openai_client, "too long", background=True).id)
    assert answer.status == "failed"
    assert answer.error is not None
    assert answer.error.code == "invalid_prompt"
    assert "9000 tokens" in answer.error.message
    with pytest.raises(openai.NotFoundError):
        openai_client.responses.create(model="nobody", input="a", background=True)


def test_tokens_of_a_conversation_are_counted_as_they_would_be_read(openai_client: OpenAI, engine: EchoEngine) -> None:
    engine.says = ["one"]
    first = ask(openai_client, "four")
    alone = openai_client.responses.input_tokens.count(model=BASE, input="12345")
    assert alone.input_tokens == len("12345"), "a token for each character: the tests' engine"
    whole = openai_client.responses.input_tokens.count(
        model=BASE, input="12345", previous_response_id=first.id, instructions="xy"
    )
    assert whole.input_tokens == len("xyfourone12345")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}]},
            "input[0].content[0].type",
        ),
        ({"input": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "wizard", "content": "a"}]}, "input[0].role"),
        ({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, "input[0].type"),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input[0].type"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "a"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f"}]}, "input[0].arguments"),
        ({"input": 5}, "input"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "custom", "name": "f"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "name": "f", "parameters": {"type": "array"}}]}, "tools[0].parameters.type"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name"),
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {"tools": [{"type": "function", "name": "f"}], "tool_choice": {"type": "function", "name": "g"}},
            "tool_choice.name",
        ),
        ({"tool_choice": {"type": "web_search_preview"}}, "tool_choice.type"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "text", "name": "a"}}}, "text.format.name"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
        ({"truncation": "auto"}, "truncation"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"moderation": {"model": "omni"}}, "moderation"),
        ({"prompt_cache_options": {"mode": "explicit"}}, "prompt_cache_options"),
        ({"access_programs": {"cyber": "standard"}}, "access_programs"),
        ({"background_options": {"completion_window": "2h"}}, "background_options"),
        ({"image": {"context_compression": "auto"}}, "image"),
        ({"background": True, "store": False}, "store"),
        ({"include": ["everything"]}, "include[0]"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"messages": []}, "messages"),
        ({"seed": 1}, "seed"),
        ({"model": None}, "model"),
    ],
)
def test_what_cannot_be_honoured_is_named(url: str, change: dict[str, object], param: str) -> None:
    asked = {"model": BASE, "input": "a", **change}
    answer = httpx2.post(f"{url}/v1/responses", json=asked, headers={"api-key": KEY})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param, answer.text


def test_harmless_fields_are_taken_and_repeated(url: str, engine: EchoEngine) -> None:
    asked = {
        "model": BASE,
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]}],
        "metadata": {"a": "b"},
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "service_tier": "flex",
        "prompt_cache_retention": "24h",
        "truncation": "disabled",
        "reasoning": {"effort": None, "summary": None},
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "include": ["reasoning.encrypted_content"],
        "max_tool_calls": 3,
        "parallel_tool_calls": True,
        "stream": False,
        "background": False,
        "conversation": None,
    }
    answer = httpx2.post(f"{url}/v1/responses", json=asked, headers={"api-key": KEY})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-luthier-without-effect"] == "service_tier, prompt_cache_retention"
    body = answer.json()
    for name in ("metadata", "user", "safety_identifier", "prompt_cache_key", "max_tool_calls"):
        assert body[name] == asked[name]
    assert body["service_tier"] == "default"
    assert set(json.loads(body["output"][0]["content"][0]["text"])) >= {"messages", "temperature"}
