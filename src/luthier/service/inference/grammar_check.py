"""Answers that must match a schema: its grammar is compiled before an engine gets it, and answers are checked."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jsonschema_rs

from luthier.core.errors import InvalidRequest, Unsupported
from luthier.data.schemas import schema_cost
from luthier.data.tools import answer_grammar
from luthier.grammars.grammar_checker import CheckedGrammar, GrammarChecker
from luthier.service.inference.generation_requests import AnswerMatcher, ChatRequest, Json, Tool

MAX_COMPILE_S = 2.0
"""An engine compiles a grammar for each answer of a request, and answers nobody meanwhile."""
_CHECKED_BY_GRAMMAR_ONLY = {"pattern", "format", "multipleOf"}
"""Another regex engine may read a pattern differently, and another arithmetic a remainder of decimals."""


@dataclass(frozen=True, slots=True)
class _Constraint:
    """Implements generation_requests.AnswerConstraint by a grammar and validators of the schemas."""

    grammar: CheckedGrammar | None
    schema: jsonschema_rs.Validator | None
    tools: Mapping[str, jsonschema_rs.Validator]

    def new_matcher(self) -> AnswerMatcher | None:
        return None if self.grammar is None else self.grammar.new_matcher()

    def breaks_schema(self, text: str) -> bool:
        return _breaks(self.schema, text)

    def breaks_tool_schema(self, name: str, arguments: str) -> bool:
        return _breaks(self.tools.get(name), arguments)


async def add_constraint(
    grammars: GrammarChecker, resource_id: str, request: ChatRequest, renders_tools: bool
) -> ChatRequest:
    """The request with the constraint of its answers; as it is if they are free text.

    Resources take turns to have a grammar compiled. Raises InvalidRequest and Unsupported for a grammar that no engine
    should get, Unavailable if too many wait.
    """
    grammar = request.grammar()
    if grammar is None:
        return request
    use = request.tool_use
    tools = use.callable if use.can_call else ()
    schemas = [tool.arguments for tool in tools] + ([request.schema] if request.schema is not None else [])
    compiled = await grammars.checked(resource_id, grammar, _pattern_grammars(schemas))
    _check(compiled, request)
    # A native call has a grammar of the engine's own: compiling that costs as much as ours.
    is_ours = not request.is_native(renders_tools) or request.schema is not None
    constraint = await asyncio.to_thread(_constraint, compiled if is_ours else None, request.schema, tools)
    return replace(request, constraint=constraint)


def _constraint(grammar: CheckedGrammar | None, schema: Json | None, tools: Sequence[Tool]) -> _Constraint:
    """The constraint by a compiled grammar (None: the engine has its own) and the schemas' validators; it computes."""
    by_name = {tool.name: validator for tool in tools if (validator := _validator(tool.arguments)) is not None}
    return _Constraint(grammar, None if schema is None else _validator(schema), by_name)


def _check(compiled: CheckedGrammar, request: ChatRequest) -> None:
    """Raises InvalidRequest for a grammar that costs too much for `n` answers, Unsupported for an unusable one."""
    must_call = request.schema is None or request.tool_use.must_call
    param = "tools" if must_call else "response_format"
    match compiled.fault:
        case "complex":
            text = "No answer can be held to this schema at a bearable cost: fewer alternatives within allOf, and"
            text += " patterns without long repetitions behind open ones, make it simpler."
            raise InvalidRequest("schema_too_complex", text, param)
        case "unknown":
            text = "No answer can be held to this schema: it contradicts itself, or has a pattern of another kind."
            raise Unsupported("schema_not_supported", text, param)
    if compiled.cpu_s * request.sampling.n > MAX_COMPILE_S:
        max_answers = max(1, int(MAX_COMPILE_S / compiled.cpu_s))
        text = f"A schema as large as this one is held to for {max_answers} answers of a request at most."
        raise InvalidRequest("schema_too_complex", text, "n")


def _pattern_grammars(schemas: list[Json]) -> list[str]:
    """A grammar of each string with a pattern, without repetition.

    They are tried separately: a random answer seldom reaches them.
    """
    grammars: dict[str, None] = {}
    for node in _nodes(schemas):
        keywords = {key: node[key] for key in ("pattern", "minLength", "maxLength") if key in node}
        if "pattern" in keywords:
            schema = {"type": "string", **keywords}
            grammars[answer_grammar.build_grammar({}, must_call=False, parallel=False, schema=schema)] = None
    return list(grammars)


def _nodes(value: Any) -> Iterator[Json]:
    """Every JSON object within a value, itself included, unless its `pattern` is no text.

    Some are no schemas but, say, `properties`, where a key that is spelled as a keyword is a name. Each pattern of a
    `patternProperties` is given as a schema of its own.
    """
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, Mapping):
            if isinstance(value.get("pattern", ""), str):
                yield value
            stack += value.values()
            patterns = value.get("patternProperties")
            if isinstance(patterns, Mapping):
                stack += ({"pattern": pattern} for pattern in patterns)
        elif isinstance(value, list):
            stack += value


def _validator(schema: Json) -> jsonschema_rs.Validator | None:
    """Checks what the grammar accepted against the schema; None for a schema that only the grammar can check."""
    if any("patternProperties" in node for node in _nodes(schema)):
        return None
    try:
        schema_cost.check_visits(schema)
        return jsonschema_rs.validator_for(_without_grammar_keywords(schema), offline=True)
    except (schema_cost.TooManyVisits, schema_cost.UnresolvedReference):
        return None
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError):
        return None


def _without_grammar_keywords(schema: Any) -> Any:
    """The schema without the keywords of _CHECKED_BY_GRAMMAR_ONLY, at any depth."""
    if isinstance(schema, Mapping):
        return {
            key: value if key in ("enum", "const", "required") else _without_grammar_keywords(value)
            for key, value in schema.items()
            if key not in _CHECKED_BY_GRAMMAR_ONLY or isinstance(value, Mapping)
        }
    return [_without_grammar_keywords(item) for item in schema] if isinstance(schema, list) else schema


def _breaks(validator: jsonschema_rs.Validator | None, text: str) -> bool:
    """Whether a text is no JSON or does not match; False without a validator, or for a value that cannot be checked."""
    if validator is None:
        return False
    try:
        value = json.loads(text)
    except RecursionError:
        return False  # nested too deep to check; its grammar accepted it
    except ValueError:
        return True
    try:
        return not validator.is_valid(value)
    except (ValueError, OverflowError):
        return False  # a number too large to compare
