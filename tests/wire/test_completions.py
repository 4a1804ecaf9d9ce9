"""Legacy completions in every dialect: every shape of a prompt, the legacy log-probabilities, what is refused."""

import json

import httpx2
import openai
import pytest
from openai import AzureOpenAI, OpenAI

from control_plane import put
from fakes import BASE, KEY, EchoEngine
from luthier.service.background.supervisor import Supervisor
from schemas import faults, published


@pytest.fixture
def deployed(url: str, supervisor: Supervisor) -> str:
    put(url, "clippy", BASE)
    supervisor.tick_deployments()
    return "clippy"


def test_completion_comes_through_a_deployment_of_every_dialect_and_by_chats_route(
    azure: AzureOpenAI, azure_v1: OpenAI, openai_client: OpenAI, deployed: str
) -> None:
    for client in (azure, azure_v1, openai_client):
        answer = client.completions.create(model=deployed, prompt="Once", temperature=0, seed=3)
        asked = json.loads(answer.choices[0].text)
        assert asked["adapter"] == BASE, "the adapter is chosen by the address, as in a chat"
        assert (asked["prompt"], asked["max_tokens"], asked["seed"], asked["top_p"]) == ("Once", 16, 3, 1.0)
        assert (answer.model, answer.object, answer.usage.total_tokens) == (BASE, "text_completion", 5)
    for client in (azure, azure_v1):
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model=BASE, prompt="Once")


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_prompts_of_every_shape_are_asked_in_order(
    openai_client: OpenAI, engine: EchoEngine, prompt: object, sent: list[object]
) -> None:
    answer = openai_client.completions.create(model=BASE, prompt=prompt, n=2)
    assert [choice.index for choice in answer.choices] == list(range(2 * len(sent)))
    assert [json.loads(choice.text)["prompt"] for choice in answer.choices[::2]] == sent
    assert answer.usage.prompt_tokens == 3 * len(sent)
    assert answer.usage.completion_tokens == 4 * len(sent)


def test_echo_repeats_the_prompt_of_tokens_too(openai_client: OpenAI, engine: EchoEngine) -> None:
    engine.says = ["!", "?"]
    assert openai_client.completions.create(model=BASE, prompt="Hi", echo=True).choices[0].text == "Hi!"
    assert openai_client.completions.create(model=BASE, prompt=[72, 105], echo=True).choices[0].text == "Hi?"


def test_logprobs_have_the_legacy_shape(openai_client: OpenAI, engine: EchoEngine) -> None:
    engine.says = ["Hi"]
    (choice,) = openai_client.completions.create(model=BASE, prompt="x", logprobs=2).choices
    found = choice.logprobs
    assert (found.tokens, found.token_logprobs, found.text_offset) == (["Hi"], [-0.5], [0])
    assert found.top_logprobs == [{"Hi": -0.5, "z": -9999.0}]
    assert openai_client.completions.create(model=BASE, prompt="x").choices[0].logprobs is None


def test_prompt_that_is_echoed_has_log_probabilities_of_its_own(
    azure_v1: OpenAI, engine: EchoEngine, deployed: str
) -> None:
    engine.says = ["!"]
    asked = {"model": deployed, "prompt": "Hé?", "echo": True, "logprobs": 1, "max_tokens": 1}
    (choice,) = azure_v1.completions.create(**asked).choices
    found = choice.logprobs
    assert choice.text == "Hé?!"
    assert found.tokens == ["H", "é", "?", "!"]
    assert found.token_logprobs == [None, -1.0, -2.0, -0.5]
    assert found.top_logprobs == [None, {"a": -0.25}, {"a": -0.25}, {"!": -0.5}]
    assert found.text_offset == [0, 1, 2, 3]


def test_prompt_alone_is_scored_with_max_tokens_0_and_no_answer_is_computed(url: str, engine: EchoEngine) -> None:
    body = {"model": BASE, "prompt": [[72, 105], [72]], "echo": True, "logprobs": 2, "max_tokens": 0, "n": 2}
    answer = httpx2.post(f"{url}/v1/completions", headers={"api-key": KEY}, json=body).json()
    assert [choice["text"] for choice in answer["choices"]] == ["Hi", "Hi", "H", "H"]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert answer["choices"][0]["logprobs"]["token_logprobs"] == [None, -1.0]
    assert answer["choices"][0]["logprobs"]["top_logprobs"] == [None, {"a": -0.25, "b": -0.5}]
    assert {choice["finish_reason"] for choice in answer["choices"]} == {"length"}
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (3, 0)
    assert not [asked for asked in engine.asked if "prompt" in asked], "no completion was asked for"


def test_answer_that_ends_at_once_has_an_entry_behind_the_prompts(url: str, engine: EchoEngine) -> None:
    """lm-eval cuts the last entry off as the answer's: without one, the continuation's last token would go."""
    engine.ends_at_once = True
    body = {"model": BASE, "prompt": [72, 105], "echo": True, "logprobs": 1, "max_tokens": 1}
    answer = httpx2.post(f"{url}/v1/completions", headers={"api-key": KEY}, json=body).json()
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("Hi", "stop")
    assert choice["logprobs"]["tokens"] == ["H", "i", "a"]
    assert choice["logprobs"]["token_logprobs"] == [None, -1.0, -0.25]
    assert choice["logprobs"]["text_offset"] == [0, 1, 2]


def test_streamed_echo_has_the_prompts_log_probabilities_in_its_first_piece(url: str, engine: EchoEngine) -> None:
    engine.says = ["wonderful"]
    with OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        asked = {"model": BASE, "prompt": "Hi", "echo": True, "logprobs": 1, "stream": True}
        pieces = list(client.completions.create(**asked))
    assert "".join(piece.choices[0].text for piece in pieces) == "Hiwonderful"
    assert pieces[0].choices[0].logprobs.token_logprobs == [None, -1.0]
    assert pieces[1].choices[0].logprobs.text_offset[0] >= 2


def test_engine_that_tells_nothing_of_prompts_is_a_400_in_words(openai_client: OpenAI, engine: EchoEngine) -> None:
    engine.scores = False
    with pytest.raises(openai.BadRequestError, match="tells no log-probabilities of a prompt; ask without echo"):
        openai_client.completions.create(model=BASE, prompt="x", echo=True, logprobs=1)


def test_stream_is_the_text_in_pieces_of_each_choice(url: str, engine: EchoEngine) -> None:
    # Not by the strict client: the SDK's type and the published schema know no null for finish_reason.
    engine.says = ["wonderful"] * 2
    with OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        asked = {"model": BASE, "prompt": "x", "n": 2, "stream": True, "stream_options": {"include_usage": True}}
        pieces = list(client.completions.create(**asked))
    texts = ["", ""]
    for piece in pieces[:-1]:
        texts[piece.choices[0].index] += piece.choices[0].text
    assert texts == ["wonderful"] * 2
    assert sorted(p.choices[0].finish_reason for p in pieces[:-1] if p.choices[0].finish_reason) == ["length"] * 2
    assert pieces[-1].usage.total_tokens == 7


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"best_of": 3, "stream": True}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": 6}, "logprobs"),
        ({"prompt": ["a"] * 65, "n": 2}, "prompt"),
        ({"extra_body": {"prompt": None}}, "prompt"),
        ({"extra_body": {"top_k": 1}}, "top_k"),
    ],
)
def test_what_cannot_be_honoured_is_named(openai_client: OpenAI, change: dict[str, object], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.completions.create(**{"model": BASE, "prompt": "x"} | change)
    assert str(caught.value.param).split(".")[0] == param


def test_answer_fits_the_published_schema(openai_client: OpenAI) -> None:
    document = published("openai-chat.trimmed.json")
    schema = document["components"]["schemas"]["CreateCompletionResponse"]
    for asked in ({}, {"logprobs": 1, "best_of": 2}):
        raw = openai_client.completions.with_raw_response.create(model=BASE, prompt="x", **asked)
        assert not list(faults(json.loads(raw.text), schema, document))


def test_fault_in_a_prompt_of_tokens_is_told_by_its_place_alone(url: str) -> None:
    """Not by how the parser names the branch of a union that it tried."""
    body = {"model": BASE, "prompt": [1, -2]}
    answer = httpx2.post(f"{url}/v1/completions", headers={"authorization": f"Bearer {KEY}"}, json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert "prompt[1]: must be 0 or more" in error["message"]
    assert not {"str", "function", "list["} & set(error["message"].replace(".", " ").split())
    assert error["param"] == "prompt"
