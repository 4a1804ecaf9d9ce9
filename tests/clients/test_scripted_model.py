"""What the tests' engine says to clients: calls what is offered, fills what is asked for, tells what came back."""

import json
from typing import Any

import pytest
import scripted_model

from luthier.data.tools.answer_grammar import build_grammar
from luthier.data.tools.prompt_format import call_text

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ANSWER = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
PERSON = {
    "type": "object",
    "properties": {"person": {"$ref": "#/$defs/Person"}, "note": {"type": "string"}},
    "required": ["person"],
    "$defs": {
        "Person": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "kind": {"enum": ["a", "b"]},
                "boss": {"anyOf": [{"type": "null"}, {"type": "string"}]},
            },
            "required": ["name", "tags", "kind", "boss"],
        }
    },
}
QUESTION = {"role": "user", "content": 'Weather? {"city": "Paris"}'}
CALL = {"role": "assistant", "content": call_text("w", '{"city": "Paris"}')}
RESULT = {"role": "user", "content": "<tool_response>\nsunny\n</tool_response>"}
PARIS = call_text("w", '{"city": "Paris"}')


def said(messages: list[dict[str, str]], functions: dict[str, Any], **more: Any) -> str | None:
    grammar = build_grammar(functions, parallel=True, **{"must_call": False, **more})
    return scripted_model.answer({"messages": messages, "grammar": grammar})


@pytest.mark.parametrize(
    ("messages", "functions", "must_call", "answer"),
    [
        ([QUESTION], {"w": CITY}, False, PARIS),
        ([QUESTION, CALL, RESULT], {"w": CITY}, False, "The result is: sunny"),
        ([QUESTION, CALL, RESULT], {"w": CITY, "end": ANSWER}, False, "The result is: sunny"),
        ([QUESTION, CALL, RESULT], {"w": CITY, "end": ANSWER}, True, call_text("end", '{"answer": "sunny"}')),
        ([QUESTION, {"role": "assistant", "content": "hand over"}, RESULT], {"w": CITY}, False, PARIS),
        ([QUESTION, CALL, RESULT, {"role": "assistant", "content": "Sunny."}, QUESTION], {"w": CITY}, False, None),
    ],
)
def test_tool_is_called_once_and_its_result_told(
    messages: list[dict[str, str]], functions: dict[str, Any], must_call: bool, answer: str | None
) -> None:
    assert said(messages, functions, must_call=must_call) == answer


def test_schema_is_filled_with_the_values_of_the_question() -> None:
    text = said([{"role": "user", "content": 'Who? {"name": "Ada", "tags": ["x"], "kind": "b"}'}], {}, schema=PERSON)
    assert json.loads(text or "") == {"person": {"name": "Ada", "tags": ["x"], "kind": "b", "boss": "a word"}}


def test_plain_question_is_repeated() -> None:
    assert scripted_model.answer({"messages": [QUESTION]}) is None
    assert json.loads(scripted_model.answer({"prompt": [72, 105]}) or "") == {"prompt": "Hi"}
