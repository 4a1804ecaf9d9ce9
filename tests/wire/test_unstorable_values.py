"""Half characters and numbers that JSON has no form for: a 400 at their field, wherever they are sent."""

import json
from typing import Any

import httpx2
import pytest

from fakes import BASE, KEY, EchoEngine

HALF = "a\ud800b"
FORM = {
    "type": "json_schema",
    "name": "n",
    "schema": {"type": "object", "properties": {"a": {"type": "number", "default": float("inf")}}},
}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("responses", {"input": HALF}, "input"),
        ("responses", {"input": HALF, "background": True}, "input"),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": HALF}]}]}, None),
        ("responses", {"input": "a", "model": HALF}, "model"),
        (
            "responses",
            {"input": "a", "tools": [{"type": "function", "name": "f", "description": HALF}]},
            "tools[0].description",
        ),
        (
            "responses",
            {"input": "a", "tools": [{"type": "function", "name": "f", "output_schema": {HALF: 1}}]},
            "tools[0].output_schema",
        ),
        ("responses", {"input": "a", "text": {"format": FORM}}, "text.format.schema.properties.a.default"),
        ("chat/completions", {"messages": [{"role": "user", "content": HALF}]}, "messages[0].content"),
        ("chat/completions", {"messages": [{"role": "user", "content": "a"}], "model": HALF}, "model"),
    ],
)
def test_value_that_no_json_holds_is_named_and_never_a_500(
    url: str, engine: EchoEngine, path: str, body: dict[str, Any], param: str | None
) -> None:
    answer = httpx2.post(f"{url}/v1/{path}", content=json.dumps({"model": BASE, **body}), headers=JSON_HEADERS)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param or "input[0].content[0].text"), answer.text
    assert not engine.asked


def test_whole_characters_are_taken_however_they_are_spelled(url: str, engine: EchoEngine) -> None:
    text = "\N{VIOLIN} NaN Infinity 1e999 \ud55c"
    for spelled in (json.dumps(text), json.dumps(text, ensure_ascii=False)):
        raw = f'{{"model": "{BASE}", "input": {spelled}}}'.encode()
        answer = httpx2.post(f"{url}/v1/responses", content=raw, headers=JSON_HEADERS)
        assert answer.status_code == 200, answer.text
        assert engine.asked[-1]["messages"][-1]["content"] == text


JSON_HEADERS = {"api-key": KEY, "content-type": "application/json"}
