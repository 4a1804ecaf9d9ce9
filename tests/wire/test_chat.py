"""Chat through deployments and models, whole and streamed; the engine is a fake that repeats what it was asked."""

import json
from typing import Any

import openai
import pytest
from openai import AzureOpenAI, OpenAI
from openai.types.chat import (
    ChatCompletionContentPartImageParam,
    ChatCompletionContentPartTextParam,
    ChatCompletionMessageParam,
)

from control_plane import put
from fakes import BASE, EchoEngine
from luthier.service.background.supervisor import Supervisor

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Who painted the Mona Lisa?"}]


@pytest.fixture
def deployed(url: str, supervisor: Supervisor) -> str:
    put(url, "clippy", BASE)
    supervisor.tick_deployments()
    return "clippy"


def test_whole_answer_comes_through_a_deployment_of_every_dialect(
    azure: AzureOpenAI, azure_v1: OpenAI, openai_client: OpenAI, deployed: str
) -> None:
    for client in (azure, azure_v1, openai_client):
        answer = client.chat.completions.create(model=deployed, messages=QUESTION, temperature=0, max_tokens=7, seed=3)
        asked = json.loads(answer.choices[0].message.content)
        assert asked["messages"] == QUESTION
        assert (asked["temperature"], asked["max_tokens"], asked["seed"], asked["top_p"]) == (0, 7, 3, 1.0)
        assert asked["adapter"] == BASE
        assert answer.model == BASE
        assert answer.usage.total_tokens == 5
        assert "timings" not in answer.model_dump()


def test_stream_comes_in_pieces_with_usage_for_those_who_ask(
    azure: AzureOpenAI, deployed: str, engine: EchoEngine
) -> None:
    engine.says, engine.piece = ["ab"], 1
    pieces = list(azure.chat.completions.create(model=deployed, messages=QUESTION, stream=True))
    assert [piece.choices[0].delta.content for piece in pieces] == ["", "a", "b", None]
    assert pieces[0].choices[0].delta.role == "assistant"
    assert pieces[-1].choices[0].finish_reason == "stop"
    asked: dict[str, Any] = {
        "model": deployed,
        "messages": QUESTION,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    last = list(azure.chat.completions.create(**asked))[-1]
    assert last.choices == []
    assert last.usage.total_tokens == 5


def test_openai_dialect_calls_models_directly_and_azure_does_not(
    azure: AzureOpenAI, azure_v1: OpenAI, openai_client: OpenAI
) -> None:
    assert openai_client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION).model == BASE
    for client in (azure, azure_v1):
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model=BASE, messages=QUESTION)
        assert caught.value.code == "DeploymentNotFound"
    with pytest.raises(openai.NotFoundError) as caught:
        openai_client.chat.completions.create(model="nobody", messages=QUESTION)
    assert caught.value.code == "model_not_found"


def test_text_parts_are_joined_and_pictures_refused_by_place(openai_client: OpenAI) -> None:
    parts: list[ChatCompletionContentPartTextParam] = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    answer = openai_client.chat.completions.create(model=BASE, messages=[{"role": "user", "content": parts}])
    assert json.loads(answer.choices[0].message.content)["messages"][0]["content"] == "ab"
    picture: list[ChatCompletionContentPartImageParam] = [
        {"type": "image_url", "image_url": {"url": "https://a/b.png"}}
    ]
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.chat.completions.create(model=BASE, messages=[{"role": "user", "content": picture}])
    assert (caught.value.code, caught.value.param) == ("image_not_supported", "messages[0].content")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 129}, "n"),
        ({"messages": []}, "messages"),
        ({"extra_body": {"top_k": 3}}, "top_k"),
    ],
)
def test_field_that_cannot_be_honoured_is_named(openai_client: OpenAI, change: dict[str, object], param: str) -> None:
    request = {"model": BASE, "messages": QUESTION} | change
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.chat.completions.create(**request)
    assert caught.value.param == param


@pytest.mark.parametrize("stream", [False, True])
def test_prompt_over_the_context_is_a_400(openai_client: OpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.chat.completions.create(
            model=BASE, messages=[{"role": "user", "content": "too long"}], stream=stream
        )
    assert caught.value.code == "context_length_exceeded"
