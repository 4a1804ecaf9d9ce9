"""What is bounded in a question, each with its refusal, and answers that break off when they break their schema."""

import json
import time
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from fakes import BASE, KEY, EchoEngine
from luthier.api.requests.chat_bodies import MAX_BIASES, MAX_ID_CHARACTERS, MAX_STOP_CHARACTERS
from luthier.api.requests.completion_bodies import MAX_PROMPT_TOKENS
from luthier.data.tools.prompt_format import call_text
from luthier.service.context import Context
from processor import reference_s

HEADERS = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
QUESTION = [{"role": "user", "content": "Hi"}]
VOCABULARY = 1000
NUMBERS = {"type": "array", "items": {"type": "integer"}}
COLOURS = {"enum": ["red", "green"]}
PICKED = {"type": "function", "function": {"name": "pick", "parameters": {"properties": {"a": COLOURS}}}}


@pytest.fixture(autouse=True)
def vocabulary(context: Context) -> None:
    folder = context.base_folder(BASE) / "hf"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"vocab_size": VOCABULARY}))


def refusal(client: OpenAI, chat: bool, **asked: Any) -> openai.BadRequestError:
    create = client.chat.completions.create if chat else client.completions.create
    question = {"messages": QUESTION} if chat else {"prompt": "x"}
    with pytest.raises(openai.BadRequestError) as caught:
        create(**{"model": BASE} | question | asked)
    return caught.value


def streamed(client: OpenAI, **asked: Any) -> tuple[str, str]:
    """What came of an answer before it broke off, and the error: a status of its own, or one within the stream."""
    sent = ""
    try:
        for piece in client.chat.completions.create(model=BASE, messages=QUESTION, stream=True, **asked):
            sent += piece.choices[0].delta.content or ""
            assert piece.choices[0].finish_reason is None
    except openai.APIError as error:
        return sent, str(error)
    pytest.fail("the stream came to its end")


@pytest.mark.parametrize(
    ("chat", "asked", "param"),
    [
        (True, {"logit_bias": {str(id): 1 for id in range(MAX_BIASES + 1)}}, "logit_bias"),
        (True, {"logit_bias": {str(VOCABULARY): 1}}, f"logit_bias.{VOCABULARY}"),
        (True, {"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        (True, {"stop": "x" * (MAX_STOP_CHARACTERS + 1)}, "stop"),
        (True, {"user": "x" * (MAX_ID_CHARACTERS + 1)}, "user"),
        (True, {"metadata": {"k": "x" * 513}}, "metadata"),
        (True, {"metadata": {f"k{place}": "v" for place in range(17)}}, "metadata"),
        (True, {"tools": [PICKED] * 129}, "tools"),
        (False, {"prompt": [1, VOCABULARY]}, "prompt[1]"),
        (False, {"prompt": [[1], [2, VOCABULARY + 5]]}, "prompt[1][1]"),
        (False, {"prompt": [2**63]}, "prompt"),
        (False, {"prompt": [2**63 + 0.0]}, "prompt"),
        (False, {"prompt": [1, True]}, "prompt"),
        (False, {"prompt": [1] * (MAX_PROMPT_TOKENS + 1)}, "prompt"),
        (False, {"prompt": ["a", 5]}, "prompt"),
        (False, {"prompt": [[1], []]}, "prompt"),
        (False, {"logit_bias": {"1000": 1}}, "logit_bias.1000"),
    ],
)
def test_question_beyond_a_bound_is_refused_by_name(
    openai_client: OpenAI, engine: EchoEngine, chat: bool, asked: dict[str, Any], param: str
) -> None:
    error = refusal(openai_client, chat, **asked)
    assert str(error.param).startswith(param)
    assert not engine.asked


def test_token_beyond_the_vocabulary_is_told_with_its_place_and_the_size(openai_client: OpenAI) -> None:
    error = refusal(openai_client, False, prompt=[1, 2, 7000])
    assert error.code == "invalid_token_id"
    assert "prompt[2] names the token 7000, and the model's vocabulary has 1000" in error.message


def test_question_at_its_bounds_is_asked(openai_client: OpenAI, engine: EchoEngine) -> None:
    most = {"logit_bias": {str(id): 1 for id in range(VOCABULARY)}, "stop": ["x" * MAX_STOP_CHARACTERS] * 4}
    openai_client.chat.completions.create(model=BASE, messages=QUESTION, **most)
    openai_client.completions.create(model=BASE, prompt=[0, VOCABULARY - 1], echo=True)
    assert engine.asked[-1] == {"tokens": [0, VOCABULARY - 1]}


def test_faulty_entries_by_the_thousand_cost_no_more_than_a_look(url: str) -> None:
    for field, value in (
        ("logit_bias", {f"x{place}": "y" for place in range(20_000)}),
        ("metadata", {f"x{place}": place for place in range(20_000)}),
        ("prompt", [-1] * 20_000),
        ("prompt", [[-1]] * 20_000),
    ):
        route = "completions" if field == "prompt" else "chat/completions"
        body = json.dumps({"model": BASE, "prompt": "x"} | {field: value})
        if field != "prompt":
            body = json.dumps({"model": BASE, "messages": QUESTION, field: value})
        start = time.process_time()
        answer = httpx2.post(f"{url}/v1/{route}", headers=HEADERS, content=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
        assert len(answer.content) < 4000
        assert time.process_time() - start < 40 * reference_s()


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "(" * 400},
        {"type": "string", "pattern": "a{99999999999999999999}"},
        {"type": "string", "pattern": "[z-a]"},
        {"type": "string", "minLength": 10**300},
        {"enum": [10**300]},
        {"multipleOf": 1e-300},
        {"$ref": "#/" + "a/" * 5000},
        {"\ud800": 1, "type": "nothing"},
    ],
    ids=str,
)
def test_schema_that_is_none_is_a_400_and_never_a_500(url: str, schema: dict[str, Any]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "f", "schema": schema, "strict": True}}
    body = json.dumps({"model": BASE, "messages": QUESTION, "response_format": form})
    answer = httpx2.post(f"{url}/v1/chat/completions", headers=HEADERS, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("response_format")


@pytest.mark.parametrize(
    "aside",
    ['"\\ud800"', "NaN", "-Infinity", "1" * 400, "[" * 300 + "]" * 300],
    ids=("half", "nan", "infinity", "digits", "depth"),
)
def test_description_that_no_json_holds_is_a_400_and_never_a_500(url: str, engine: EchoEngine, aside: str) -> None:
    """In a keyword that no grammar looks at, and that the model is shown all the same."""
    parameters = f'{{"type": "object", "properties": {{"a": {{"type": "string", "examples": [{aside}]}}}}}}'
    function = f'{{"name": "f", "parameters": {parameters}}}'
    for tools in (f'"tools": [{{"type": "function", "function": {function}}}]', f'"functions": [{function}]'):
        body = f'{{"model": "{BASE}", "messages": {json.dumps(QUESTION)}, {tools}}}'
        answer = httpx2.post(f"{url}/v1/chat/completions", headers=HEADERS, content=body)
        assert answer.status_code == 400, answer.text
        assert "parameters" in answer.json()["error"]["param"]
    assert not engine.asked


@pytest.mark.parametrize("place", ["", "logit_bias", "metadata"])
def test_half_a_character_in_a_name_is_a_400_and_never_a_500(url: str, place: str) -> None:
    half = {"\ud800": "x"}
    body = {"model": BASE, "messages": QUESTION} | ({place: half} if place else half)
    answer = httpx2.post(f"{url}/v1/chat/completions", headers=HEADERS, content=json.dumps(body))
    assert (answer.status_code, bool(answer.json()["error"]["message"])) == (400, True)


def _form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "f", "schema": schema}}


@pytest.mark.parametrize(
    ("asked", "says", "param"),
    [
        ({"response_format": _form(NUMBERS)}, "Here they are: 1, 2", "response_format"),
        ({"response_format": _form(NUMBERS)}, "[1, 2, three]", "response_format"),
        ({"response_format": _form(NUMBERS)}, "[1, 2, 3", "response_format"),
        ({"response_format": _form({"type": "string", "maxLength": 3})}, '"long"', "response_format"),
        ({"response_format": _form(COLOURS)}, '"blue"', "response_format"),
        ({"response_format": {"type": "json_object"}}, "{}, and more", "response_format"),
        ({"response_format": {"type": "json_object"}}, "[]", "response_format"),
        ({"tools": [PICKED], "tool_choice": "required"}, "I would rather not.", "tools"),
        ({"tools": [PICKED]}, call_text("pick", '{"a": "blue"}'), "tools"),
        ({"tools": [PICKED]}, call_text("other", "{}"), "tools"),
    ],
)
def test_answer_that_breaks_its_schema_never_leaves_whole(
    openai_client: OpenAI, engine: EchoEngine, asked: dict[str, Any], says: str, param: str
) -> None:
    engine.says = [says, says]
    error = refusal(openai_client, True, **asked)
    assert (error.code, error.param) == ("schema_not_supported", param)
    sent, error_text = streamed(openai_client, **asked)
    assert "held to the schema" in error_text
    assert says.startswith(sent)
    assert says != sent or says == "[1, 2, 3"


def test_answer_that_its_length_or_a_stop_string_ended_is_given(openai_client: OpenAI, engine: EchoEngine) -> None:
    engine.says = ["[1, 2, 3"]
    answer = openai_client.chat.completions.create(
        model=BASE, messages=QUESTION, response_format=_form(NUMBERS), stop=["]"]
    )
    assert answer.choices[0].message.content == "[1, 2, 3"


def test_schema_too_complex_is_refused_before_any_engine_gets_it(openai_client: OpenAI, engine: EchoEngine) -> None:
    grows = {"type": "string", "pattern": "^.*[a-c].{24}$"}
    error = refusal(openai_client, True, response_format=_form(grows))
    assert (error.code, error.param) == ("schema_too_complex", "response_format")
    assert not engine.asked
