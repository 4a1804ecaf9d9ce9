"""Refusals are in our words and say what to do: bodies, queries, JSON that is none, paths of others."""

import re
from collections.abc import Iterator
from typing import Any, get_args

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

from control_plane import PATH
from fakes import BASE, KEY
from luthier.api.requests import validation_errors

JSON = {"api-key": KEY, "content-type": "application/json"}
VERSION = "?api-version=2024-10-21"
LIBRARY = re.compile(
    r"[Ii]nput should|[Ff]ield required|[Ee]xtra inputs|[Vv]alue error|(String|List|Dictionary|Value) should"
    r"|[Uu]nable to|valid (string|integer|number|boolean|dictionary|list|tuple|float)|[Aa]ssertion|pydantic|decode"
    r"|parsing|Traceback|\bdict\b|\bNoneType\b|\bstr\b|at (least|most) \d+ (item|character)"
)
"""Words of pydantic, Starlette, python-multipart and json."""
WRONG: tuple[object, ...] = (
    None,
    True,
    7,
    -1,
    1e300,
    2.5,
    float("nan"),
    10**400,
    "",
    "x",
    "x" * 5000,
    "\ud800",
    [],
    [7],
    [None],
    ["x"] * 200,
    [[]],
    [{"type": "wrong"}],
    {},
    {"a": 1},
    {"type": "wrong"},
)
MESSAGES = [{"role": "user", "content": "hi"}]


def bodies(model: type[BaseModel], depth: int = 4) -> Iterator[dict[str, Any]]:
    """Objects with one wrong value in one field of the model, or of the models in it."""
    yield {"nobody_knows_this": 1}
    for name, field in model.model_fields.items():
        key = field.alias or name
        for value in WRONG:
            yield {key: value}
        for inner in set(models_in(field.annotation)) if depth else ():
            for body in bodies(inner, depth - 1):
                yield {key: body}
                yield {key: [body]}


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def refusals(field: Any, body: object) -> list[str]:
    """What a caller would read of a body."""
    _, faults = field.validate(body, {}, loc=("body",))
    model = field.field_info.annotation
    return [f"{one.param}: {one.message}" for one in validation_errors.details(faults, model)]


def test_no_word_of_a_library_is_in_any_refusal_of_any_body(app: FastAPI) -> None:
    seen = 0
    fields = {
        route.body_field.field_info.annotation: route.body_field
        for route in app.routes
        if isinstance(route, APIRoute) and route.body_field is not None
    }
    assert len(fields) >= 12
    for model, field in fields.items():
        for body in (*WRONG, b"{}", *bodies(model)):
            for text in refusals(field, body):
                seen += 1
                quoted = re.sub(r'"[^"]*"|\'[^\']*\'', "", text)
                assert not LIBRARY.search(quoted), (model.__name__, str(body)[:80], text)
                assert "this value cannot be used" not in text, (model.__name__, str(body)[:80], text)
                assert not re.search(r"\b[A-Z]\w+(Part|Tool|Body|Choice|Message)\b", text), text
                text.encode()
    assert seen > 5000


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/files?limit=x", 'limit: "x" was sent; it must be a whole number'),
        ("/v1/files?limit=0", 'limit: "0" was sent; it must be 1 or more'),
        ("/v1/files?order=up", "it must be 'asc' or 'desc'"),
        (f"/openai/fine_tuning/jobs{VERSION}&limit=101", "it must be 100 or less"),
        ("/openai/v1/fine_tuning/jobs/ftjob-x/events?stream=maybe", "it must be true or false"),
        ("/v1/files/file-x/report?method=magic", "method: "),
    ],
)
def test_fault_of_a_query_is_in_our_words(url: str, path: str, words: str) -> None:
    answer = httpx2.get(url + path, headers=JSON)
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert words in message
    assert not LIBRARY.search(message)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"n_epochs": 1}, "n_epochs: it belongs in hyperparameters.n_epochs"),
        ({"hyperparameters": {"epochs": 3}}, "hyperparameters.epochs: did you mean n_epochs?"),
        ({"hyperparameters": {"learning_rate": 1e-5}}, "is a factor on the base model's recommended rate, not a rate"),
        ({"learning_rate": 1e-5}, "write hyperparameters.learning_rate_multiplier"),
        ({"learning_rate": 1e-5}, "or the rate as luthier.learning_rate"),
        ({"lora_rank": 8}, "lora_rank: it belongs in luthier.lora_rank"),
        ({"hyperparameters": {"warmup_steps": 5}}, "did you mean luthier.warmup?"),
        (
            {"method": {"type": "supervised", "supervised": {"n_epochs": 1}}},
            "method.supervised.n_epochs: it belongs in method.supervised.hyperparameters.n_epochs",
        ),
        (
            {"method": {"type": "dpo", "dpo": {"hyperparameters": {"num_epochs": 1}}}},
            "method.dpo.hyperparameters.num_epochs: did you mean n_epochs?",
        ),
        ({"method": {"type": "dpo", "hyperparameters": {}}}, "it belongs in method.supervised.hyperparameters"),
        ({"hyperparameters": {"beta": 0.1}}, "it belongs in method.dpo.hyperparameters.beta"),
        ({"hyperparameters": {"suffix": "x"}}, "it belongs to the root of the body, as suffix"),
        ({"type": "supervised"}, "type: it belongs in method.type"),
        ({"sufix": "x"}, "did you mean suffix?"),
        ({"hyperparameters": {"batch_sise": 1}}, "did you mean batch_size?"),
        ({"hyperparameters": [1]}, "hyperparameters: a list of 1 was sent; it must be an object"),
        ({"training_file": ["file-x"]}, "it must be text: the id that POST .../files answered with"),
        ({"compute_classification_metrics": True}, "classification metrics were the older API's; leave it out"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/fine_tuning/jobs", f"/openai/fine_tuning/jobs{VERSION}"])
def test_field_at_the_wrong_place_is_told_the_right_one(url: str, path: str, body: dict[str, Any], words: str) -> None:
    answer = httpx2.post(url + path, headers=JSON, json={"model": BASE, "training_file": "file-x"} | body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("chat/completions", {"messages": MESSAGES, "reasoning_effort": "low"}, "this model does not reason; leave it"),
        ("chat/completions", {"messages": MESSAGES, "verbosity": "low"}, "verbosity: how long answers are is learned"),
        (
            "chat/completions",
            {"messages": [*MESSAGES, {"role": "user", "content": {"temperature": 20}}]},
            "messages[1].content: an object was sent; it must be text or a list: write it as text, of an object its",
        ),
        ("chat/completions", {"messages": [{"role": "robot", "content": "x"}]}, 'messages[0].role: "robot" was sent;'),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text: this field is required.",
        ),
        (
            "chat/completions",
            {"messages": [*MESSAGES, {"role": "assistant", "content": "x", "reasoning_content": "y"}]},
            "messages[1].reasoning_content: no model here reasons, and thoughts are no part of a prompt; leave it out.",
        ),
        ("chat/completions", {"messages": MESSAGES, "stop": ""}, 'stop: "" was sent; it must not be empty.'),
        ("chat/completions", {"input": "hi"}, "input: it is the Responses API's; a chat takes messages"),
        ("chat/completions", {"messages": MESSAGES, "max_output_tokens": 5}, "did you mean max_completion_tokens?"),
        ("chat/completions", {"messages": MESSAGES, "top_k": 5}, "top_k: answers are sampled by temperature, top_p"),
        ("chat/completions", {"messages": MESSAGES, "max_tokens": 0}, "max_tokens: 0 was sent; it must be 1 or more"),
        ("completions", {"messages": MESSAGES, "prompt": "x"}, "messages go to /chat/completions"),
        ("completions", {"prompt": {"a": 1}}, "prompt: is a text, a list of texts"),
    ],
)
def test_fault_of_a_question_says_what_to_do(url: str, path: str, body: dict[str, Any], words: str) -> None:
    answer = httpx2.post(f"{url}/v1/{path}", headers=JSON, json={"model": BASE} | body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_fault_in_a_part_of_a_message_is_told_of_that_kind_of_part_alone(url: str) -> None:
    """Not that its type were another, which is what the other branches of the union find."""
    body = {"model": BASE, "messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]}
    error = httpx2.post(f"{url}/v1/chat/completions", headers=JSON, json=body).json()["error"]
    assert error["message"] == "messages[0].content[0].text: 7 was sent; it must be text."


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b'{ training_file="file-abc", model="x" }',
            "at line 1, column 3, a key has no quotes. Put each key in",
        ),
        (b'{\n  "model": "x",\n}', "at line 2, column 15, there is a comma where JSON allows none. Remove it."),
        (b'{"model": True}', "at line 1, column 11, a constant of another language"),
        (b'{"model": "x"} {}', "at line 1, column 16, a second JSON value begins. Send one JSON object."),
        (b'{"model": "x', "at line 1, column 11, the string that begins here is never closed. Complete it."),
        (b'{"model": "\xe4"}', "byte 0xe4 at offset 11 is not UTF-8"),
        (b"   ", "it is empty. Send a JSON object"),
        (b'{"seed": ' + b"1" * 5000 + b"}", "at line 1, column 10, a number is larger than"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/fine_tuning/jobs"),
        ("POST", f"/openai/deployments/d/chat/completions{VERSION}"),
        ("POST", "/openai/v1/completions"),
        ("POST", "/v1/uploads"),
        ("PUT", f"{PATH}/d"),
    ],
)
def test_body_that_is_no_json_is_told_by_line_and_column(
    url: str, method: str, path: str, content: bytes, words: str
) -> None:
    answer = httpx2.request(method, url + path, headers=JSON, content=content)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_body_that_is_not_there_or_of_no_kind_is_told_so(url: str) -> None:
    path = f"{url}/v1/fine_tuning/jobs"
    assert "the request has no body" in httpx2.post(path, headers=JSON).json()["error"]["message"]
    answer = httpx2.post(path, headers={"api-key": KEY}, content=b'{"model": "x"}')
    assert "has no header content-type: application/json" in answer.json()["error"]["message"]
    assert "a list of 1 was sent; it must be an object" in httpx2.post(path, headers=JSON, json=[1]).text


UNSERVED = [
    ("POST", "/v1/conversations", "continue a response by its previous_response_id"),
    ("POST", "/v1/fine-tunes", "create jobs by POST /v1/fine_tuning/jobs"),
    ("GET", f"/openai/fine-tunes{VERSION}", "create jobs by POST /openai/fine_tuning/jobs"),
    ("POST", "/v1/fine_tuning/alpha/graders/run", "Graders belong to reinforcement fine-tuning"),
    ("POST", "/openai/v1/evals", "Evals are not served here"),
    ("POST", f"/openai/deployments/d/batches{VERSION}", "POST /openai/batches: each of its lines names"),
    ("POST", "/v1/moderations", "No moderation"),
    ("POST", "/v1/audio/speech", "Images, sound and video are not served here"),
    ("POST", "/v1/images/generations", "Images, sound and video"),
    ("POST", "/v1/videos", "Images, sound and video"),
    ("POST", "/v1/realtime/client_secrets", "Images, sound and video"),
    ("POST", "/v1/vector_stores", "Assistants, threads, vector stores"),
    ("POST", "/v1/assistants", "Assistants, threads, vector stores"),
    ("POST", "/v1/threads/runs", "Assistants, threads, vector stores"),
    ("POST", "/v1/edits", "This older API of OpenAI's"),
    ("POST", f"/openai/deployments/d/extensions/chat/completions{VERSION}", "models read no data sources"),
    ("GET", "/v1/chat/completions/chatcmpl-1", "Completions are not stored here"),
    ("GET", "/v1/organization/projects", "`luthier keys`"),
    ("POST", "/v1/messages", "Anthropic's Messages API"),
    ("POST", "/v1/rerank", "not served here"),
    ("POST", "/api/chat", "Ollama's API"),
    ("GET", "/api/tags", "Ollama's API"),
    ("GET", "/nothing/of/ours", "The base URL is .../v1"),
    ("GET", "/", "the base URL of the API is .../v1"),
]
MEANT = [
    ("GET", "/v1/v1/models", "/v1/models"),
    ("GET", "/models", "/v1/models"),
    ("POST", "/chat/completions", "/v1/chat/completions"),
    ("GET", "/openai/openai/files", "/openai/files"),
    ("GET", "/v1/openai/files", "/v1/files"),
    ("GET", "//v1/files", "/v1/files"),
    ("GET", "/v1/files/", "/v1/files"),
    ("GET", "/V1/Files", "/v1/files"),
    ("POST", "/deployments/d/chat/completions", "/openai/deployments/d/chat/completions"),
    ("POST", "/openai/v1/deployments/d/chat/completions", "/openai/v1/chat/completions"),
    ("POST", "/v1/deployments/d/chat/completions", "/v1/chat/completions"),
    ("POST", f"/openai/chat/completions{VERSION}", "/openai/deployments/NAME/chat/completions"),
    ("POST", "/v1/fine_tuning", "/v1/fine_tuning/jobs"),
    ("POST", "/v1/fine-tuning/jobs", "/v1/fine_tuning/jobs"),
    ("POST", "/v1/fine_tuning/job", "/v1/fine_tuning/jobs"),
    ("POST", "/v1/chat/completion", "/v1/chat/completions"),
    ("GET", "/v1/model", "/v1/models"),
    ("GET", "/v1/fine_tuning/jobs/ftjob-1/event", "/v1/fine_tuning/jobs/{job_id}/events"),
]


@pytest.mark.parametrize(("method", "path", "words"), UNSERVED)
def test_path_of_others_is_told_what_to_use_instead(url: str, method: str, path: str, words: str) -> None:
    answer = httpx2.request(method, url + path, headers=JSON, content=b"{}" if method == "POST" else None)
    assert answer.status_code == 404
    message = answer.json()["error"]["message"]
    assert f"there is no route {method} {path.partition('?')[0]}." in message
    assert words in message
    assert "Check the base URL" not in message


@pytest.mark.parametrize(("method", "path", "meant"), MEANT)
def test_path_that_is_nearly_one_of_ours_is_told_which(url: str, method: str, path: str, meant: str) -> None:
    connection = httpx2.URL(url)
    answer = httpx2.request(method, connection.copy_with(raw_path=path.encode()), headers=JSON)
    assert answer.status_code == 404
    assert f"Did you mean {meant}?" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "is_told"),
    [
        ("/openai/openai/files", True),
        ("/openai/v1/openai/models", True),
        ("/v1/openai/deployments/d/chat/completions", True),
        ("/v1/v1/models", False),
        ("/models", False),
    ],
)
def test_azure_endpoint_with_too_long_a_path_is_told_that_the_sdk_adds_it(url: str, path: str, is_told: bool) -> None:
    message = httpx2.get(url + path, headers=JSON).json()["error"]["message"]
    assert ("its azure_endpoint is only the address" in message) == is_told


def test_missing_api_version_is_told_the_base_url_without_one(url: str) -> None:
    message = httpx2.get(f"{url}/openai/models", headers=JSON).json()["error"]["message"]
    assert "The base URL .../openai/v1 needs none." in message


def test_method_of_a_vendor_that_is_not_served_is_told_why(url: str) -> None:
    answer = httpx2.get(f"{url}/v1/chat/completions", headers=JSON)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert "Completions are not stored here, so there is no list of them." in answer.json()["error"]["message"]
    answer = httpx2.post(f"{url}/v1/files/file-1", headers=JSON)
    assert "A file cannot be changed" in answer.json()["error"]["message"]
    answer = httpx2.post(f"{url}/v1/responses/compact", headers=JSON, json={})
    assert answer.status_code == 405
    assert "Conversations are not compacted here" in answer.json()["error"]["message"]


def test_long_or_odd_path_is_told_in_short(url: str) -> None:
    answer = httpx2.get(f"{url}/v1/{'x' * 5000}", headers=JSON)
    assert answer.status_code == 404
    assert len(answer.json()["error"]["message"]) < 600
    assert httpx2.get(f"{url}/v1/%ED%A0%80/y", headers=JSON).status_code == 404
