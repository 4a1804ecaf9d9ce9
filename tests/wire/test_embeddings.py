"""Embeddings in every dialect, by the official SDK, against an engine whose vectors say what it was asked."""

import base64
import re
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import httpx2
import openai
import pytest
from openai import AzureOpenAI, OpenAI

import control_plane
import wordpiece
from asgi_switch import Switch
from fakes import BASE, KEY, EchoEngine, engine_calls
from luthier.api import server
from luthier.api.services import Services
from luthier.core.engine_ports import Capacity
from luthier.core.models import Principal
from luthier.core.roles import Role
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.service.scheduling.admission import QueueLimits
from luthier.service.tenants import keys
from waiting import until

NAME = "all-minilm-l6-v2"
MOST = 24
SEA = 7
"""The token of "sea"."""


@pytest.fixture
def model(context: Context) -> str:
    wordpiece.make_folder(context.base_folder(NAME), MOST)
    return NAME


@pytest.fixture
def deployed(model: str, url: str, supervisor: Supervisor) -> str:
    assert control_plane.put(url, "vectors", model).status_code == 201
    supervisor.tick_deployments()
    found = control_plane.call("GET", f"{url}{control_plane.PATH}/vectors").json()
    assert found["properties"]["provisioningState"] == "Succeeded"
    assert found["properties"]["capabilities"] == {"embeddings": "true"}
    return "vectors"


@pytest.fixture
def lenient(url: str) -> Iterator[OpenAI]:
    """For base64, the SDK's default: its strict validation takes lists of floats only, and looks before it decodes."""
    with OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def post(url: str, path: str = "/v1/embeddings", **body: Any) -> httpx2.Response:
    return httpx2.post(f"{url}{path}", json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)


def test_every_dialect_embeds_by_its_own_path(
    azure: AzureOpenAI, azure_v1: OpenAI, lenient: OpenAI, deployed: str
) -> None:
    for client, name in ((azure, deployed), (azure_v1, deployed), (lenient, deployed), (lenient, NAME)):
        answer = client.embeddings.create(model=name, input=["sea", "the sea is wide"])
        assert answer.object == "list"
        assert answer.model == NAME
        assert [(entry.object, entry.index, entry.embedding[0]) for entry in answer.data] == [
            ("embedding", 0, 3.0),
            ("embedding", 1, 6.0),
        ]
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == 9


def test_path_of_older_sdks_names_the_deployment(url: str, deployed: str) -> None:
    for path in (f"/v1/engines/{deployed}/embeddings", f"/openai/engines/{deployed}/embeddings?api-version=2024-10-21"):
        answer = post(url, path, input="sea", model="not looked at")
        assert answer.json()["data"][0]["embedding"] == [3.0, SEA, 0.0, 0.0]


@pytest.mark.parametrize(
    ("given", "lengths"),
    [
        ("sea", [3]),
        (["sea", "the sea"], [3, 4]),
        ([SEA, 8.0], [4]),
        ([[SEA], [SEA, 8, 9]], [3, 5]),
        ([[3, SEA, 4]], [3]),
    ],
)
def test_input_of_every_shape_is_embedded_in_order(openai_client: OpenAI, model: str, given: Any, lengths: Any) -> None:
    answer = openai_client.embeddings.create(model=model, input=given, encoding_format="float")
    assert [entry.embedding[0] for entry in answer.data] == lengths
    assert answer.usage.total_tokens == sum(lengths)


def test_base64_is_little_endian_float32_of_the_same_numbers(url: str, model: str) -> None:
    plain = post(url, model=model, input="the sea").json()["data"][0]["embedding"]
    encoded = post(url, model=model, input="the sea", encoding_format="base64").json()["data"][0]["embedding"]
    assert list(struct.unpack("<4f", base64.b64decode(encoded))) == plain


def test_many_inputs_of_mixed_lengths_keep_their_order(lenient: OpenAI, model: str, engine: EchoEngine) -> None:
    texts = ["sea " * (1 + 7 * number % 20) for number in range(2048)]
    answer = lenient.embeddings.create(model=model, input=texts)
    assert [entry.embedding[0] for entry in answer.data] == [3.0 + 7 * number % 20 for number in range(2048)]
    assert [entry.index for entry in answer.data] == list(range(2048))
    assert 1 < max(len(body["input"]) for body in engine.asked) <= 64


def test_engine_gets_the_ids_of_the_models_own_tokenizer(lenient: OpenAI, model: str, engine: EchoEngine) -> None:
    lenient.embeddings.create(model=model, input="東 SHIPS")
    assert engine.asked[-1]["input"] == [[3, 18, 10, 11, 4]]


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"input": ""}, "input", "cannot be an empty string"),
        ({"input": ["sea", ""]}, "input", r"input\[1\]: cannot be an empty string"),
        ({"input": []}, "input", "not empty"),
        ({"input": [[SEA], []]}, "input", r"input\[1\]: must be a list of token ids"),
        ({"input": ["sea", 1]}, "input", "must be text"),
        ({"input": [1, "sea"]}, "input", "whole number"),
        ({"input": [-1]}, "input", "from 0 to"),
        ({"input": ["a"] * 2049}, "input", "2,048 entries at most"),
        ({}, "input", "this field is required"),
        ({"input": "sea", "dimensions": 2}, "dimensions", "have 4 numbers"),
        ({"input": "sea", "encoding_format": "int8"}, "encoding_format", "float"),
        ({"input": "sea", "truncate": True}, "truncate", "shorten it"),
        ({"input": "sea", "prompt": "x"}, "prompt", "did you mean input"),
        ({"input": "sea", "colour": 1}, "colour", "colour"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(url: str, model: str, body: Any, param: str, words: str) -> None:
    answer = post(url, model=model, **body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert re.search(words, error["message"])


def test_own_dimensions_and_user_are_taken(lenient: OpenAI, model: str) -> None:
    assert len(lenient.embeddings.create(model=model, input="sea", dimensions=4, user="u").data) == 1


def test_too_long_inputs_are_named_with_their_lengths(url: str, model: str) -> None:
    answer = post(url, model=model, input=["sea", "sea " * 30, "the " * 40])
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input[1]")
    assert "maximum context length is 24 tokens" in error["message"]
    assert "input[1] has 32 tokens, input[2] has 42 tokens" in error["message"]


def test_token_ids_of_another_tokenizer_are_refused(url: str, model: str) -> None:
    """What LangChain sends by default are tiktoken's: common words have small ids there, unused ones here."""
    unused = post(url, model=model, input=[[SEA, 1, 8]])
    beyond = post(url, model=model, input=[[SEA], [50_000]])
    assert unused.status_code == beyond.status_code == 400
    assert unused.json()["error"]["param"] == "input[0][1]"
    assert "check_embedding_ctx_length=False" in unused.json()["error"]["message"]
    assert beyond.json()["error"]["param"] == "input[1][0]"


def test_model_that_generates_makes_no_embeddings(url: str, context: Context) -> None:
    refused = post(url, model=BASE, input="sea")
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "model_makes_no_embeddings"
    assert "luthier models pull all-minilm-l6-v2" in refused.json()["error"]["message"]
    wordpiece.make_folder(context.base_folder(NAME), MOST)
    assert "Embedding models here: all-minilm-l6-v2." in post(url, model=BASE, input="sea").json()["error"]["message"]


def test_model_that_is_not_pulled_is_named_with_the_command(url: str) -> None:
    for name in (NAME, "text-embedding-3-small"):
        answer = post(url, model=name, input="sea")
        assert answer.status_code == 503
        assert "luthier models pull all-minilm-l6-v2" in answer.json()["error"]["message"]


def test_embedding_model_answers_no_chat_and_trains_no_job(openai_client: OpenAI, model: str, file: str) -> None:
    with pytest.raises(openai.BadRequestError, match="is an embedding model") as refused:
        openai_client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}])
    assert refused.value.code == "model_makes_embeddings"
    with pytest.raises(openai.BadRequestError, match="is an embedding model"):
        openai_client.completions.create(model=model, prompt="Hi")
    with pytest.raises(openai.BadRequestError, match="cannot be fine-tuned"):
        openai_client.fine_tuning.jobs.create(model=model, training_file=file)


def test_embedding_model_is_listed_as_one(client: OpenAI, url: str, model: str) -> None:
    found = client.models.retrieve(model).to_dict()
    assert found["abilities"] == ["embeddings"]
    assert found["capabilities"] == {
        "fine_tune": False,
        "inference": True,
        "completion": False,
        "chat_completion": False,
        "embeddings": True,
    }
    account = control_plane.PATH.rpartition("/")[0]
    listed = {
        one["name"]: one["capabilities"] for one in control_plane.call("GET", f"{url}{account}/models").json()["value"]
    }
    assert listed[model] == {"embeddings": "true", "inference": "true", "maxContextToken": "256"}


def test_azure_needs_a_deployment(azure: AzureOpenAI, model: str) -> None:
    with pytest.raises(openai.NotFoundError):
        azure.embeddings.create(model=model, input="sea")


def test_unknown_model_is_404(openai_client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        openai_client.embeddings.create(model="nobody", input="sea")


@pytest.fixture
def narrow(
    switch: tuple[Switch, str], context: Context, serving: Serving, engine: EchoEngine, model: str
) -> Iterator[str]:
    """A service whose engine takes one batch, and before which one request may wait."""
    engine.capacity = Capacity("embeddings", slots=1, context_tokens=64, window_tokens=MOST)
    made, address = switch
    calls = engine_calls(QueueLimits(requests=1, wait_s=30.0))
    made.app = server.build(Services(context, serving, lambda: None, calls=calls), None)
    yield address
    engine.holds.clear()


def test_caller_who_leaves_frees_its_place(narrow: str, model: str, engine: EchoEngine) -> None:
    assert post(narrow, model=model, input="sea").status_code == 200
    engine.holds.set()
    headers = {"Authorization": f"Bearer {KEY}"}
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{narrow}/v1/embeddings", json={"model": model, "input": "sea"}, headers=headers, timeout=1.0)
    until(lambda: not engine.busy, 10)
    engine.holds.clear()
    assert post(narrow, model=model, input="sea").status_code == 200


def test_more_callers_than_may_wait_are_told_when_to_come_back(narrow: str, model: str, engine: EchoEngine) -> None:
    assert post(narrow, model=model, input="sea").status_code == 200
    engine.holds.set()
    with ThreadPoolExecutor(4) as threads:
        computed = threads.submit(post, narrow, model=model, input="sea")
        until(lambda: engine.busy, 10)
        others = [threads.submit(post, narrow, model=model, input="sea") for _ in range(3)]
        ended = as_completed(others)
        for answer in (next(ended).result(), next(ended).result()):
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
        engine.holds.clear()
        assert [computed.result().status_code, next(ended).result().status_code] == [200, 200]


def test_revoked_key_ends_a_call_in_progress(
    url: str, model: str, engine: EchoEngine, context: Context, caller: Principal
) -> None:
    key = keys.create(context, caller.resource.id, "second", Role.OPENAI_USER)
    engine.holds.set()
    with ThreadPoolExecutor(1) as threads:
        headers = {"Authorization": f"Bearer {key}"}
        body = {"model": model, "input": "sea"}
        answer = threads.submit(httpx2.post, f"{url}/v1/embeddings", json=body, headers=headers, timeout=60)
        until(lambda: engine.busy, 10)
        keys.revoke(context, caller.resource.id, "second")
        assert answer.result().status_code == 401
    engine.holds.clear()
