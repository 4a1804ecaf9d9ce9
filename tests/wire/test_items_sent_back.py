"""Items of an answer as programs send them back: the SDK's objects, and what its `model_dump` makes of them."""

import json
from typing import Any

import pytest
from openai import OpenAI
from pydantic import BaseModel

from fakes import BASE, EchoEngine
from luthier.data.tools.prompt_format import call_text


class City(BaseModel):
    city: str


TOOL: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": None,
}
STRICT: Any = {**TOOL, "strict": True, "parameters": {**TOOL["parameters"], "additionalProperties": False}}
FORMS = (
    lambda item: item,
    lambda item: item.to_dict(),
    lambda item: item.model_dump(),
    lambda item: json.loads(item.model_dump_json()),
)


@pytest.mark.parametrize("form", FORMS, ids=("object", "to_dict", "model_dump", "json"))
def test_parsed_text_and_calls_are_taken_back_in_every_form(
    openai_client: OpenAI, engine: EchoEngine, form: Any
) -> None:
    engine.says = ['{"city": "Rome"}', call_text("weather", '{"city": "Rome"}')]
    text = openai_client.responses.parse(model=BASE, input="a", text_format=City)
    calls = openai_client.responses.parse(model=BASE, input="a", tools=[STRICT])
    assert text.output_parsed == City(city="Rome")
    assert calls.output[0].type == "function_call"
    output = {"type": "function_call_output", "call_id": calls.output[0].call_id, "output": "20"}
    history: Any = [{"role": "user", "content": "a"}, *map(form, text.output), *map(form, calls.output), output]
    for background in (False, True):
        answer = openai_client.responses.create(model=BASE, input=history, tools=[TOOL], background=background)
        assert answer.error is None
    assert [turn["role"] for turn in engine.asked[-1]["messages"]][-3:] == ["user", "assistant", "user"]


def test_message_whose_type_is_null_is_a_message(openai_client: OpenAI, engine: EchoEngine) -> None:
    item: Any = {"type": None, "role": "user", "content": "a", "id": None, "status": None, "phase": None}
    openai_client.responses.create(model=BASE, input=[item])
    assert engine.asked[-1]["messages"] == [{"role": "user", "content": "a"}]
