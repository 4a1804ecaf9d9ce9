"""Responses: whole and streamed, with tools and schemas; strictly the newest SDK's types."""

import json
import re
from typing import Any

import httpx2
import openai
import pytest
from openai import AzureOpenAI, OpenAI
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_create_params import ResponseCreateParamsBase, ResponseCreateParamsStreaming
from pydantic import BaseModel, TypeAdapter

from control_plane import put
from fakes import BASE, KEY, EchoEngine
from luthier.api.requests.responses.response_bodies import ResponseBody
from luthier.data.tools.prompt_format import call_text
from luthier.service.background.supervisor import Supervisor
from repository import ROOT

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "Weather of a city",
    "parameters": SCHEMA,
    "strict": True,
}
CALL = call_text("weather", '{"city": "Paris"}')


@pytest.fixture
def deployed(url: str, supervisor: Supervisor) -> str:
    put(url, "clippy", BASE)
    supervisor.tick_deployments()
    return "clippy"


EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def stream(client: OpenAI, **asked: Any) -> list[Any]:
    """The events of a response, checked for what holds of every stream."""
    events = list(client.responses.create(model=BASE, stream=True, **asked))
    for event in events:
        EVENT.validate_python(event.to_dict())
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert len({event.response.id for event in events if hasattr(event, "response")}) == 1
    return events


def test_whole_response_comes_through_a_deployment_of_every_dialect(
    azure: AzureOpenAI, azure_v1: OpenAI, openai_client: OpenAI, deployed: str
) -> None:
    for client in (azure, azure_v1, openai_client):
        answer = client.responses.create(
            model=deployed, input="Who?", instructions="Be brief.", temperature=0, max_output_tokens=7
        )
        asked = json.loads(answer.output_text)
        assert asked["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
        assert (asked["temperature"], asked["max_tokens"], asked["top_p"]) == (0, 7, 1.0)
        assert (answer.status, answer.model, answer.object) == ("completed", BASE, "response")
        assert answer.usage is not None
        assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (3, 2, 5)
        assert (answer.instructions, answer.temperature, answer.max_output_tokens) == ("Be brief.", 0, 7)
        assert client.responses.retrieve(answer.id) == answer


def test_streamed_text_comes_as_typed_events_and_ends_as_a_whole_response_would(
    openai_client: OpenAI, engine: EchoEngine
) -> None:
    engine.says, engine.piece = ["Leonardo"], 5
    events = stream(openai_client, input="Who painted it?")
    assert [event.type.removeprefix("response.") for event in events[2:]] == [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Leonardo"
    last: Response = events[-1].response
    assert (last.output_text, last.status) == ("Leonardo", "completed")
    assert events[2].item.content == [], "what an event holds is not changed by a later one"
    assert events[0].response.output == []
    assert openai_client.responses.retrieve(last.id) == last


def test_events_name_their_kind_on_a_line_of_their_own(url: str, engine: EchoEngine) -> None:
    engine.says = ["yes"]
    asked = {"model": BASE, "input": "?", "stream": True}
    text = httpx2.post(f"{url}/v1/responses", json=asked, headers={"api-key": KEY}).text
    events = [part.splitlines() for part in text.strip().split("\n\n")]
    for kind, data in events:
        assert kind.removeprefix("event: ") == json.loads(data.removeprefix("data: "))["type"]


def test_tool_calls_are_items_whole_and_streamed_and_their_outputs_reach_the_model(
    openai_client: OpenAI, engine: EchoEngine
) -> None:
    engine.says = [CALL + "\n" + call_text("weather", '{"city": "Rome"}')] * 2
    asked: dict[str, Any] = {"input": "Weather?", "tools": [WEATHER]}
    whole = openai_client.responses.create(model=BASE, **asked)
    events = stream(openai_client, **asked)
    streamed: Response = events[-1].response
    for answer in (whole, streamed):
        assert [(item.type, json.loads(item.arguments)) for item in answer.output if item.type == "function_call"] == [
            ("function_call", {"city": "Paris"}),
            ("function_call", {"city": "Rome"}),
        ]
        assert answer.tools[0].to_dict() == WEATHER
    pieces: dict[int, str] = {}
    for event in events:
        if event.type == "response.function_call_arguments.delta":
            pieces[event.output_index] = pieces.get(event.output_index, "") + event.delta
    assert [json.loads(pieces[index]) for index in sorted(pieces)] == [{"city": "Paris"}, {"city": "Rome"}]
    outputs = [
        {"type": "function_call_output", "call_id": item.call_id, "output": f"{place} degrees"}
        for place, item in enumerate(whole.output)
        if item.type == "function_call"
    ]
    openai_client.responses.create(
        model=BASE, input=outputs, previous_response_id=whole.id, tools=[WEATHER], instructions="New."
    )
    turns = engine.asked[-1]["messages"]
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user"]
    assert turns[0]["content"].startswith("New."), "instructions are not carried over, and not lost"
    assert turns[2]["content"].count("<tool_call>") == 2, "calls of one answer are one turn"
    assert "0 degrees" in turns[3]["content"]
    assert "1 degrees" in turns[3]["content"]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "weather"}])
def test_required_call_that_the_engine_does_not_make_is_an_error_and_no_prose(
    openai_client: OpenAI, engine: EchoEngine, choice: Any
) -> None:
    engine.says = ["It is sunny."]
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.responses.create(model=BASE, input="?", tools=[WEATHER], tool_choice=choice)
    assert (caught.value.code, caught.value.param) == ("schema_not_supported", "tools")


def test_parse_gives_the_answer_as_the_callers_own_type(openai_client: OpenAI, engine: EchoEngine) -> None:
    class City(BaseModel):
        city: str

    engine.says = ['{"city": "Paris"}']
    parsed = openai_client.responses.parse(model=BASE, input="?", text_format=City)
    assert parsed.output_parsed == City(city="Paris")
    assert "grammar" in engine.asked[-1]
    assert parsed.text is not None
    assert parsed.text.format is not None
    assert parsed.text.format.type == "json_schema"
    engine.says = ["no JSON"]
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.responses.parse(model=BASE, input="?", text_format=City)
    assert caught.value.param == "text.format"


def test_streaming_helper_of_the_sdk_ends_in_the_final_response(openai_client: OpenAI, engine: EchoEngine) -> None:
    engine.says = ["Leonardo"]
    with openai_client.responses.stream(model=BASE, input="Who?") as events:
        texts = [event.delta for event in events if event.type == "response.output_text.delta"]
        final = events.get_final_response()
    assert "".join(texts) == final.output_text == "Leonardo"


def test_answer_at_its_limit_is_incomplete(openai_client: OpenAI, engine: EchoEngine) -> None:
    answer = openai_client.responses.create(model=BASE, input="cut", max_output_tokens=2)
    assert (answer.status, answer.incomplete_details) == ("completed", None)
    engine.ends = "length"
    engine.says = ["half an"] * 2
    cut = openai_client.responses.create(model=BASE, input="cut", max_output_tokens=2)
    streamed = stream(openai_client, input="cut", max_output_tokens=2)[-1]
    assert streamed.type == "response.incomplete"
    for answer in (cut, streamed.response):
        assert answer.status == answer.output[0].status == "incomplete"
        assert answer.incomplete_details.reason == "max_output_tokens"
    openai_client.responses.create(model=BASE, input="go on", previous_response_id=cut.id)
    assert [turn["content"] for turn in engine.asked[-1]["messages"]] == ["cut", "half an", "go on"]


def test_empty_answer_is_a_message_without_text(openai_client: OpenAI, engine: EchoEngine) -> None:
    engine.says_nothing = True
    answers = [openai_client.responses.create(model=BASE, input="?"), stream(openai_client, input="?")[-1].response]
    for answer in answers:
        assert [item.type for item in answer.output] == ["message"]
        assert answer.output_text == ""


def test_error_in_the_middle_of_a_stream_ends_it_as_a_failed_response(
    openai_client: OpenAI, engine: EchoEngine
) -> None:
    engine.says, engine.piece = ["It is " + CALL[:20] + "nonsense"], 3
    events = stream(openai_client, input="?", tools=[WEATHER], tool_choice="auto")
    assert events[-1].type in ("response.completed", "response.failed")
    engine.says, engine.piece = ['{"city": 7}'], 3
    text: Any = {"format": {"type": "json_schema", "name": "city", "schema": SCHEMA, "strict": True}}
    events = stream(openai_client, input="?", text=text)
    assert [event.type for event in events[-2:]] == ["error", "response.failed"]
    assert (events[-2].code, events[-2].param) == ("schema_not_supported", "text.format")
    failed = openai_client.responses.retrieve(events[-1].response.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.code == "invalid_prompt"
    with pytest.raises(openai.BadRequestError, match="has no answer"):
        openai_client.responses.create(model=BASE, input="?", previous_response_id=failed.id)


def test_log_probabilities_come_with_text_and_events(openai_client: OpenAI, engine: EchoEngine) -> None:
    openai_client.responses.create(model=BASE, input="?", include=["message.output_text.logprobs"], top_logprobs=3)
    assert (engine.asked[-1]["logprobs"], engine.asked[-1]["top_logprobs"]) == (True, 3)
    openai_client.responses.create(model=BASE, input="?", include=["reasoning.encrypted_content"])
    assert "logprobs" not in engine.asked[-1]


def test_summary_of_thoughts_may_be_asked_for_though_there_are_none(openai_client: OpenAI, engine: EchoEngine) -> None:
    engine.says = ["Blue."]
    answer = openai_client.responses.create(model=BASE, input="?", reasoning={"summary": "auto"})
    assert (answer.output_text, answer.reasoning.summary) == ("Blue.", None)
    with pytest.raises(openai.BadRequestError, match="does not reason"):
        openai_client.responses.create(model=BASE, input="?", reasoning={"effort": "low"})


def test_page_says_of_every_field_what_becomes_of_it() -> None:
    rows = (ROOT / "docs" / "responses.md").read_text().partition("## Every field")[2].partition("## Events")[0]
    named = set(
        re.findall(r"`(\w+)[`.:]", "\n".join(line.split("|")[1] for line in rows.splitlines() if line[:1] == "|"))
    )
    fields = {*ResponseCreateParamsBase.__annotations__, *ResponseCreateParamsStreaming.__annotations__}
    assert fields - named == set()
    assert fields == set(ResponseBody.model_fields), "what the newest SDK sends is known here, and nothing else"
