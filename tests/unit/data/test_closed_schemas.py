"""Schemas are closed where that leaves an answer, and only where they say nothing of further properties."""

from typing import Any

import llguidance
import pytest

from luthier.data.schemas import closed_schemas, response_schema
from luthier.data.tools import answer_grammar
from luthier.grammars import tokens
from luthier.grammars.matcher import Matcher

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SHUT = {"additionalProperties": False}


def takes(schema: dict[str, Any], text: str) -> bool:
    grammar = answer_grammar.build_grammar({}, must_call=False, parallel=False, schema=schema)
    native = llguidance.LLMatcher(tokens.byte_tokenizer(), grammar, log_level=0)
    assert not native.is_error(), native.get_error()
    matcher = Matcher(native)
    return matcher.accepts(text) and matcher.is_complete()


@pytest.mark.parametrize(
    ("schema", "closed"),
    [
        (CITY, {**CITY, **SHUT}),
        ({"type": "array", "items": CITY}, {"type": "array", "items": {**CITY, **SHUT}}),
        ({"anyOf": [CITY, {"type": "null"}]}, {"anyOf": [{**CITY, **SHUT}, {"type": "null"}]}),
        (
            {"properties": {"properties": CITY}, "required": []},
            {"properties": {"properties": {**CITY, **SHUT}}, "required": [], **SHUT},
        ),
        ({"$ref": "#/$defs/a", "$defs": {"a": CITY}}, {"$ref": "#/$defs/a", "$defs": {"a": {**CITY, **SHUT}}}),
    ],
)
def test_objects_that_name_their_properties_are_closed(schema: dict[str, Any], closed: dict[str, Any]) -> None:
    assert closed_schemas.close_schema(schema) == closed
    assert closed_schemas.close_schema(closed) == closed


@pytest.mark.parametrize(
    "schema",
    [
        {**CITY, "additionalProperties": True},
        {**CITY, "additionalProperties": {"type": "integer"}},
        {**CITY, "patternProperties": {"^x": {}}},
        {**CITY, "minProperties": 2},
        {**CITY, "required": ["city", "unnamed"]},
        {"type": "object"},
        {"enum": [{"properties": {}}]},
        {"allOf": [CITY, {"properties": {"day": {"type": "string"}}}]},
        {**CITY, "anyOf": [{"required": ["city"]}]},
        {"$defs": {"a": CITY}, "$ref": "#/$defs/a", "properties": {"day": {}}},
    ],
)
def test_others_stay_as_they_are(schema: dict[str, Any]) -> None:
    assert closed_schemas.close_schema(schema) == schema


def test_parameters_without_a_property_take_none() -> None:
    assert closed_schemas.close_parameters({}) == {"type": "object", **SHUT}
    assert closed_schemas.close_parameters({"type": "object", **CITY}) == {**CITY, **SHUT}
    shapes: tuple[dict[str, Any], ...] = (
        {"additionalProperties": {}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}},
    )
    for kept in shapes:
        assert closed_schemas.close_parameters(kept) == {"type": "object", **kept}


def test_call_holds_to_its_properties_and_no_key_comes_twice() -> None:
    parameters = closed_schemas.close_parameters(response_schema.grammar_schema(CITY, strict=False))
    assert takes(parameters, '{"city": "Paris"}')
    assert not takes(parameters, '{"city": "Paris", "type": "x"}')
    assert not takes(parameters, '{"city": "Paris", "city": "Rome"}')


@pytest.mark.parametrize("schema", [CITY, {"type": "object"}, {"type": "array", "items": CITY}, {"anyOf": [CITY]}])
def test_answers_in_json_have_no_room_for_blanks(schema: dict[str, Any]) -> None:
    said = '{"city": "Paris"}'
    wrapped = f"[{said}]" if schema.get("type") == "array" else said
    assert takes(schema, wrapped)
    for blanks in (wrapped.replace(": ", ":  "), wrapped.replace("{", "{\n"), wrapped + "\n", " " + wrapped):
        assert not takes(schema, blanks)
