"""Every field of a chat through the SDK: passed on, answered, or refused by name; the engine is a fake."""

import json

import openai
import pytest
from openai import AzureOpenAI, OpenAI
from openai.types.chat import ChatCompletionFunctionToolParam

from control_plane import put
from fakes import BASE, EchoEngine
from luthier.api.requests.chat_bodies import ChatBody
from luthier.data.tools.prompt_format import call_text
from luthier.service.background.supervisor import Supervisor
from schemas import faults, published

QUESTION = [{"role": "user", "content": "What is the weather in Paris?"}]
ORDER: dict[str, object] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Of a city", "parameters": ORDER},
}
TIME = {"type": "function", "function": {"name": "tell_time"}}
PARIS, ROME = call_text("get_weather", '{"city": "Paris"}'), call_text("get_weather", '{"city": "Rome"}')


@pytest.fixture
def deployed(url: str, supervisor: Supervisor) -> str:
    put(url, "clippy", BASE)
    supervisor.tick_deployments()
    return "clippy"


def test_calls_come_in_every_dialect_whole_and_streamed(
    azure: AzureOpenAI, azure_v1: OpenAI, openai_client: OpenAI, deployed: str, engine: EchoEngine
) -> None:
    asked = {"model": deployed, "messages": QUESTION, "tools": [WEATHER, TIME]}
    for client in (azure, azure_v1, openai_client):
        engine.says = [f"{PARIS}\n{ROME}", f"{PARIS}\n{ROME}"]
        (choice,) = client.chat.completions.create(**asked).choices
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        assert [json.loads(call.function.arguments)["city"] for call in choice.message.tool_calls] == ["Paris", "Rome"]
        assert len({call.id for call in choice.message.tool_calls}) == 2
        pieces = list(client.chat.completions.create(**asked, stream=True))
        assert pieces[-1].choices[0].finish_reason == "tool_calls"
        arguments = ["", ""]
        for piece in pieces:
            for call in piece.choices[0].delta.tool_calls or ():
                arguments[call.index] += call.function.arguments
        assert [json.loads(text)["city"] for text in arguments] == ["Paris", "Rome"]


def test_words_of_a_model_with_tools_stay_words(openai_client: OpenAI, engine: EchoEngine) -> None:
    for text in ("It is sunny.", "<b>sunny</b>", "<tool", "a\n<tool_call>\n"):
        engine.says = [text, text]
        asked = {"model": BASE, "messages": QUESTION, "tools": [WEATHER]}
        (choice,) = openai_client.chat.completions.create(**asked).choices
        assert (choice.message.content, choice.message.tool_calls, choice.finish_reason) == (text, None, "stop")
        pieces = openai_client.chat.completions.create(**asked, stream=True)
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == text


def test_tools_and_their_history_are_written_into_the_turns(openai_client: OpenAI, engine: EchoEngine) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}}
    history = [
        {"role": "developer", "content": "Be brief."},
        *QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "audio": None},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "sunny"}]},
    ]
    openai_client.chat.completions.create(model=BASE, messages=history, tools=[WEATHER])
    turns = engine.asked[-1]["messages"]
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user"]
    assert turns[0]["content"].startswith("Be brief.\n\nYou can call functions.")
    assert json.dumps(WEATHER) in turns[0]["content"]
    assert turns[2]["content"] == PARIS
    assert turns[3]["content"] == "<tool_response>\nsunny\n</tool_response>"
    openai_client.chat.completions.create(model=BASE, messages=QUESTION, tools=[WEATHER], tool_choice="none")
    assert engine.asked[-1]["messages"] == QUESTION
    assert "grammar" not in engine.asked[-1]


@pytest.mark.parametrize(
    ("choice", "start", "names"),
    [
        ("auto", "words | calls", ["get_weather", "tell_time"]),
        ("required", "calls", ["get_weather", "tell_time"]),
        ({"type": "function", "function": {"name": "tell_time"}}, "calls", ["tell_time"]),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TIME]}},
            "words | calls",
            ["tell_time"],
        ),
    ],
)
def test_choice_of_tools_becomes_a_grammar(
    openai_client: OpenAI, engine: EchoEngine, choice: object, start: str, names: list[str]
) -> None:
    engine.says = [call_text("tell_time", "{}")]
    openai_client.chat.completions.create(
        model=BASE, messages=QUESTION, tools=[WEATHER, TIME], tool_choice=choice, parallel_tool_calls=False
    )
    grammar = engine.asked[-1]["grammar"]
    assert f"start: {start}\n" in grammar
    assert [name for name in ("get_weather", "tell_time") if name in grammar] == names
    assert '("\\n" call)' not in grammar


def test_required_call_that_the_engine_does_not_make_is_an_error_and_no_prose(
    openai_client: OpenAI, engine: EchoEngine
) -> None:
    for stream in (False, True):
        engine.says = ["Paris is lovely."]
        with pytest.raises(openai.BadRequestError) as caught:
            openai_client.chat.completions.create(
                model=BASE, messages=QUESTION, tools=[WEATHER], tool_choice="required", stream=stream
            )
        assert (caught.value.code, caught.value.param) == ("schema_not_supported", "tools")


def test_functions_of_old_are_answered_as_function_call(openai_client: OpenAI, engine: EchoEngine) -> None:
    engine.says = [PARIS, PARIS]
    asked = {"model": BASE, "messages": QUESTION, "functions": [WEATHER["function"]]}
    (choice,) = openai_client.chat.completions.create(**asked).choices
    assert (choice.finish_reason, choice.message.tool_calls) == ("function_call", None)
    assert (choice.message.function_call.name, choice.message.function_call.arguments) == (
        "get_weather",
        '{"city": "Paris"}',
    )
    back = [*QUESTION, choice.message.model_dump(), {"role": "function", "name": "get_weather", "content": "sunny"}]
    pieces = list(openai_client.chat.completions.create(**asked | {"messages": back}, stream=True))
    assert engine.asked[-1]["messages"][-2]["content"] == PARIS
    assert engine.asked[-1]["messages"][-1]["content"] == "<tool_response>\nsunny\n</tool_response>"
    assert pieces[-1].choices[0].finish_reason == "function_call"


def test_several_answers_are_numbered_and_their_usage_summed(openai_client: OpenAI, engine: EchoEngine) -> None:
    answer = openai_client.chat.completions.create(model=BASE, messages=QUESTION, n=3, seed=7)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert sorted(json.loads(choice.message.content)["seed"] for choice in answer.choices) == [7, 8, 9]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 6, 9)
    engine.says, engine.piece = ["ab"] * 3, 1
    asked = {"model": BASE, "messages": QUESTION, "n": 3, "stream": True, "stream_options": {"include_usage": True}}
    pieces = list(openai_client.chat.completions.create(**asked))
    assert pieces[-1].usage.total_tokens == 9
    assert all(piece.usage is None and "usage" in piece.model_fields_set for piece in pieces[:-1])
    words = ["", "", ""]
    for piece in pieces[:-1]:
        words[piece.choices[0].index] += piece.choices[0].delta.content or ""
    assert words == ["ab"] * 3


def test_harmless_fields_are_taken_and_reach_no_engine(openai_client: OpenAI, engine: EchoEngine) -> None:
    harmless = {
        "user": "u1",
        "safety_identifier": "s1",
        "prompt_cache_key": "k",
        "metadata": {"a": "b"},
        "store": False,
        "service_tier": "auto",
        "modalities": ["text"],
        "verbosity": "medium",
        "parallel_tool_calls": True,
        "response_format": {"type": "text"},
        "logprobs": False,
    }
    openai_client.chat.completions.create(model=BASE, messages=QUESTION, **harmless)
    engine_fields = {"messages", "model", "adapter", "temperature", "top_p", "max_tokens", "stream", "stream_options"}
    assert engine.asked[-1].keys() == engine_fields


def test_sampling_fields_reach_the_engine(openai_client: OpenAI, engine: EchoEngine) -> None:
    asked = {"logit_bias": {"42": -100}, "stop": ["a", "b"], "presence_penalty": 1.5, "frequency_penalty": -0.5}
    openai_client.chat.completions.create(model=BASE, messages=QUESTION, **asked, logprobs=True, top_logprobs=4)
    for name, value in (asked | {"logprobs": True, "top_logprobs": 4}).items():
        assert engine.asked[-1][name] == value


def test_schema_without_strict_is_held_to_as_far_as_a_grammar_can(openai_client: OpenAI, engine: EchoEngine) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}, "title": "x"}
    form = {"type": "json_schema", "json_schema": {"name": "f", "schema": schema}}
    engine.says = ['{"a": []}']
    openai_client.chat.completions.create(model=BASE, messages=QUESTION, response_format=form)
    grammar = engine.asked[-1]["grammar"]
    assert grammar.startswith("%llguidance {}\nstart: words\nwords: %json ")
    held = json.loads(grammar.partition("%json ")[2])
    assert held.pop("x-guidance")["whitespace_flexible"] is False
    assert held == {"type": "object", "properties": {"a": {"type": "array"}}, "additionalProperties": False}
    form["json_schema"]["strict"] = True
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.chat.completions.create(model=BASE, messages=QUESTION, response_format=form)
    assert caught.value.param == "response_format.json_schema.schema.properties.a.uniqueItems"


def _taking(**parameter: object) -> list[dict[str, object]]:
    return _of(parameters={"properties": {"a": parameter}})


def _of(**function: object) -> list[dict[str, object]]:
    return [{"type": "function", "function": {"name": "f", **function}}]


def test_what_changes_no_word_of_an_answer_is_taken_and_told_to_be_without_effect(
    url: str, openai_client: OpenAI
) -> None:
    asked = {
        "store": True,
        "metadata": {"distillation": "wine"},
        "service_tier": "flex",
        "prediction": {"type": "content", "content": "hi"},
        "prompt_cache_retention": "24h",
        "extra_body": {"user_security_context": {"application_name": "x", "source_ip": "10.0.0.1"}},
    }
    answer = openai_client.chat.completions.with_raw_response.create(model=BASE, messages=QUESTION, **asked)
    assert answer.parse().choices[0].message.content
    told = "store, service_tier, prediction, prompt_cache_retention"
    assert answer.headers["x-luthier-without-effect"] == told
    streamed = openai_client.chat.completions.with_raw_response.create(
        model=BASE, messages=QUESTION, stream=True, store=True
    )
    assert streamed.headers["x-luthier-without-effect"] == "store"
    plain = openai_client.chat.completions.with_raw_response.create(
        model=BASE, messages=QUESTION, store=False, service_tier="auto"
    )
    assert "x-luthier-without-effect" not in plain.headers


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"prediction": {"type": "thought", "content": "x"}}, "prediction.type"),
        ({"service_tier": "free"}, "service_tier"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"verbosity": "low"}, "verbosity"),
        ({"prompt_cache_retention": "9y"}, "prompt_cache_retention"),
        ({"extra_body": {"data_sources": [{}]}}, "data_sources"),
        ({"extra_body": {"moderation": {}}}, "moderation"),
        ({"extra_body": {"min_p": 0.1}}, "min_p"),
        ({"n": 0}, "n"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": _of(), "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice.function.name"),
        ({"tools": _of() + _of()}, "tools[1].function.name"),
        ({"tools": _of(parameters={"type": "array"})}, "tools[0].function.parameters.type"),
        ({"tools": _taking(type="wurst")}, "tools[0].function.parameters.properties.a.type"),
        ({"tools": _taking(**{"$ref": "#/x"})}, "tools[0].function.parameters.properties.a.$ref"),
        ({"tools": _of(strict=True, parameters={"oneOf": [{}]})}, "tools[0].function.parameters.oneOf"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call.name"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
        (
            {
                "messages": [
                    {"role": "assistant", "tool_calls": [{"id": "", "function": {"name": "f", "arguments": "{}"}}]}
                ]
            },
            "messages[0].tool_calls[0].id",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_named(openai_client: OpenAI, change: dict[str, object], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.chat.completions.create(**{"model": BASE, "messages": QUESTION} | change)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"n": 2, "logprobs": True, "top_logprobs": 1},
        {"tools": [WEATHER]},
        {"functions": [WEATHER["function"]]},
        {"response_format": {"type": "json_object"}},
    ],
)
def test_answers_fit_the_published_schemas(openai_client: OpenAI, engine: EchoEngine, asked: dict[str, object]) -> None:
    document = published("openai-chat.trimmed.json")
    schemas = document["components"]["schemas"]
    says = {"tools": PARIS, "functions": PARIS, "response_format": "{}"}
    text = next((says[key] for key in asked if key in says), "words")
    engine.says = [text] * 2 * int(str(asked.get("n", 1)))
    raw = openai_client.chat.completions.with_raw_response.create(model=BASE, messages=QUESTION, **asked)
    assert not list(faults(json.loads(raw.text), schemas["CreateChatCompletionResponse"], document))
    with openai_client.chat.completions.with_streaming_response.create(
        model=BASE, messages=QUESTION, stream=True, stream_options={"include_usage": True}, **asked
    ) as reply:
        lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line and line != "data: [DONE]"]
    assert len(lines) > 2
    for line in lines:
        assert not list(faults(json.loads(line), schemas["CreateChatCompletionStreamResponse"], document))


@pytest.mark.parametrize(("choice", "native"), [("auto", True), ("none", True), ("required", False)])
def test_template_with_tools_renders_them_itself_unless_a_call_must_be_made(choice: str, native: bool) -> None:
    question = ChatBody(messages=QUESTION, tools=[WEATHER], tool_choice=choice).chat_request()
    body = question.engine_request(0, renders_tools=True)
    assert ("tools" in body, "grammar" in body) == (native, not native)
    if native:
        assert (body["tools"], body["tool_choice"], body["messages"]) == ([WEATHER], choice, QUESTION)
