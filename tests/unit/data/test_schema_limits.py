"""Bounds on schemas: within them a schema is taken, beyond them it is refused by the path and the bound."""

import time

import pytest

from luthier.data.schemas import regex_support, response_schema
from luthier.data.schemas.schema_limits import COMPLEX, MAX_ITEMS, MAX_PROPERTIES, MAX_TEXT, SchemaSizes, UnusableSchema
from luthier.data.tools import tool_definitions
from odd_schemas import ODD, TEXT, OddSchema
from processor import reference_s


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.name)
def test_odd_schema_is_taken_within_the_bounds_and_refused_beyond(odd: OddSchema) -> None:
    before = time.process_time()
    if odd.refused == "invalid_json_schema" or " beyond" in odd.name:
        with pytest.raises(UnusableSchema) as caught:
            response_schema.grammar_schema(odd.schema, strict=False)
        assert (caught.value.code or "invalid_json_schema") == odd.refused
        assert caught.value.message
    else:  # what no figure shows is left to the trial of the grammar
        response_schema.grammar_schema(odd.schema, strict=False)
    assert time.process_time() - before < 20 * reference_s()


def test_sizes_of_a_requests_schemas_are_counted_together() -> None:
    half = {"type": "object", "properties": {f"p{place}": TEXT for place in range(MAX_PROPERTIES // 2)}}
    half["required"] = list(half["properties"])
    sizes = SchemaSizes()
    response_schema.grammar_schema(half, False, sizes)
    response_schema.grammar_schema(half, False, sizes)
    with pytest.raises(UnusableSchema) as caught:
        response_schema.grammar_schema({"type": "object", "properties": {"one": TEXT}}, False, sizes)
    assert (caught.value.path, caught.value.code) == (".properties", COMPLEX)


def test_upper_limits_beyond_any_answer_are_lowered() -> None:
    schema = {"type": "array", "maxItems": 10**9, "items": {"type": "string", "maxLength": 2**40}}
    assert response_schema.grammar_schema(schema, True) == {
        "type": "array",
        "maxItems": MAX_ITEMS,
        "items": {"type": "string", "maxLength": MAX_TEXT},
    }


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "string", "maxLength": "9"}, ".maxLength"),
        ({"type": "string", "maxLength": 1.5}, ".maxLength"),
        ({"properties": {"a": {"minimum": True}}}, ".properties.a.minimum"),
        ({"properties": {"a": {"minimum": 10**400}}}, ".properties.a.minimum"),
        ({"multipleOf": 0}, ".multipleOf"),
        ({"enum": [float("inf")]}, ".enum"),
        ({"required": "a"}, ".required"),
        ({"$defs": {"\ud800": {}}}, ".$defs"),
        ({"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#"}]}}}, ".anyOf[0]"),
    ],
)
def test_what_is_no_schema_is_named(schema: dict[str, object], path: str) -> None:
    with pytest.raises(UnusableSchema) as caught:
        response_schema.grammar_schema(schema, False)
    assert caught.value.path == path
    assert caught.value.message


@pytest.mark.parametrize(
    ("pattern", "regular"),
    [
        (r"^[A-Z]{3}-\d{4}$", True),
        (r"^(?:a|b)*?c+[^\]\\]$", True),
        (r"^\p{L}\u0041\x42\.$", True),
        ("(?=a)b", False),
        ("(?i)a", False),
        (r"(a)\1", False),
        (r"\bword", False),
        ("(?<name>a)", False),
        ("a**", False),
        ("(", False),
        (")", False),
        ("[a", False),
        ("a{2", False),
        (7, False),
    ],
)
def test_pattern_is_read_without_an_engine(pattern: object, regular: bool) -> None:
    assert regex_support.is_regular(pattern) is regular


def test_pattern_that_no_answer_can_be_held_to_is_left_out_unless_strict() -> None:
    schema = {"type": "string", "pattern": r"(a)\1"}
    assert response_schema.grammar_schema(schema, False) == {"type": "string"}
    with pytest.raises(UnusableSchema):
        response_schema.grammar_schema(schema, True)


def _doubling(levels: int) -> dict[str, object]:
    """Each definition applies the next one twice to the same value."""
    definitions = {f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 2} for level in range(levels)}
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{levels}": {"type": "object"}}}


def test_rows_schema_that_doubles_is_checked_within_the_bound_and_refused_beyond() -> None:
    within = tool_definitions.compile_schema(_doubling(8))
    assert isinstance(within, tool_definitions.ParameterSchema)
    assert within.violations({}) == []
    assert isinstance(tool_definitions.compile_schema(_doubling(14)), tool_definitions.SchemaFault)


def test_rows_schema_that_recurs_through_objects_is_checked() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "v": {"type": "integer"}}}
    schema = tool_definitions.compile_schema({"$ref": "#/$defs/node", "$defs": {"node": node}})
    assert isinstance(schema, tool_definitions.ParameterSchema)
    assert schema.violations({"next": {"next": {"v": 1}}}) == []
    assert len(schema.violations({"next": {"next": {"v": "1"}}})) == 1


def test_rows_patterns_that_take_long_to_compile_are_passed_over() -> None:
    for pattern, checked in ((r"^\d{4}$", True), (r"(?=.*\d)x", True), (r"^\w{1,500}$", False)):
        schema = tool_definitions.compile_schema({"properties": {"p": {"pattern": pattern}}})
        assert isinstance(schema, tool_definitions.ParameterSchema)
        assert bool(schema.violations({"p": "-"})) is checked
