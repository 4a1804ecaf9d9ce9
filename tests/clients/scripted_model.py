"""What the tests' engine says for clients that use tools and schemas: made of the request that it sees, nothing else.

A model that answers at random would do for the wire, but not for a check of the answer. So a question brings the values
of its answer as JSON, such as `What is the weather? {"city": "Paris"}`, and they are written where the grammar of the
request wants a property of that name. A tool is called once, then its result is said.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from luthier.data.tools.prompt_format import HEAD, call_text

Json = Mapping[str, Any]

_RESULT = re.compile(r"<tool_response>\n(.*?)\n</tool_response>|^Observation:\n(.*)", re.DOTALL)
"""The second form is smolagents': it writes calls and results into the turns itself."""
LATEST = "{}"
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Grammar:
    """What a grammar of `answer_grammar` lets an answer be: calls, JSON, words."""

    functions: Mapping[str, Json]
    schema: Json | None
    must_call: bool


def answer(body: Json) -> str | None:
    """The text of the answer to an engine's request; None for one that is to repeat the request.

    With tools: the first of those offered that this chat has not called yet; behind the result of one of them its text
    in a sentence, unless the answer must be a call. With a schema: its JSON.
    """
    if "messages" not in body:
        return _repeated(body)
    texts = [str(message["content"]) for message in body["messages"]]
    said = "\n".join(
        text for text, message in zip(texts, body["messages"], strict=True) if message["role"] == "assistant"
    )
    results = _results(texts[-1])
    grammar = read_grammar(body.get("grammar", ""))
    called = {name for name in grammar.functions if re.search(rf"""['"]name['"]: ['"]{re.escape(name)}['"]""", said)}
    waiting = [name for name in grammar.functions if name not in called]
    values = known_values(
        [text for text, message in zip(texts, body["messages"], strict=True) if message["role"] != "assistant"]
    )
    if waiting and (grammar.must_call or not results or not called):
        return call_text(waiting[0], json.dumps(filled(grammar.functions[waiting[0]], values), ensure_ascii=False))
    if grammar.must_call:
        name = list(grammar.functions)[-1]
        return call_text(name, json.dumps(filled(grammar.functions[name], values), ensure_ascii=False))
    if grammar.schema is not None:
        return json.dumps(filled(grammar.schema, values), ensure_ascii=False)
    return f"The result is: {' '.join(results)}" if results else None


def _repeated(body: Json) -> str | None:
    """The request for a completion with its prompt as text, where that is in tokens: each is a character here."""
    prompt = body["prompt"]
    return None if isinstance(prompt, str) else json.dumps({**body, "prompt": "".join(map(chr, prompt))})


def read_grammar(text: str) -> Grammar:
    """The functions and the schema of a grammar's text; none for an empty one."""
    functions: dict[str, Json] = {}
    schema = None
    for line in text.splitlines():
        rule, _, rest = line.partition(": ")
        if re.fullmatch(r"call_\d+", rule):
            head, end = _DECODER.raw_decode(rest)
            name, _ = _DECODER.raw_decode(head.removeprefix(HEAD))
            functions[name] = _DECODER.raw_decode(rest[end:].removeprefix(" %json "))[0]
        elif rule == "words" and rest.startswith("%json "):
            schema = json.loads(rest.removeprefix("%json "))
    return Grammar(functions, schema, "\nstart: calls\n" in text)


def known_values(texts: list[str]) -> dict[str, Any]:
    """The values by name of all JSON objects in the turns, of later turns before earlier ones; a tool's is `result`.

    The latest object as a whole is LATEST.
    """
    values: dict[str, Any] = {}
    for text in texts:
        for found in _results(text):
            values["result"] = found
        for value in _objects(text):
            values |= {**value, LATEST: value}
    return values


def _results(text: str) -> list[str]:
    """What functions have returned, as a turn tells it."""
    return [one or other for one, other in _RESULT.findall(text)]


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects within a text, outermost ones; none from the definitions of tools."""
    text = re.sub(r"<tools>.*?</tools>", "", text, flags=re.DOTALL)
    at = text.find("{")
    while at >= 0:
        try:
            value, end = _DECODER.raw_decode(text, at)
        except ValueError:
            end = at + 1
        else:
            if isinstance(value, dict):
                yield value
        at = text.find("{", end)


def filled(schema: Json, values: Json, root: Json | None = None, name: str = "") -> Any:
    """A value of the schema: known ones where they fit, else the shortest of its kind."""
    root = schema if root is None else root
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return filled(target, values, root, name)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return values[name] if values.get(name) in schema["enum"] else schema["enum"][0]
    for key in ("anyOf", "allOf"):
        if key in schema:
            branches = [branch for branch in schema[key] if branch.get("type") != "null"] or schema[key]
            fitting = [branch for branch in branches if _fits(values.get(name), branch)]
            return filled((fitting or branches)[0], values, root, name)
    if name in values and _fits(values[name], schema):
        return values[name]
    return _default(schema, values, root)


def _default(schema: Json, values: Json, root: Json) -> Any:
    kind = schema.get("type", "object")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            if "properties" not in schema:
                return values.get(LATEST, {}) if schema.get("additionalProperties", True) else {}
            properties = schema["properties"]
            written = {*(schema.get("required") or properties), *values}
            return {key: filled(one, values, root, key) for key, one in properties.items() if key in written}
        case "array":
            n = max(1, schema.get("minItems", 1))
            return [filled(schema.get("items", {"type": "string"}), values, root) for _ in range(n)]
        case "string":
            return values.get("result", "a word")
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
    return None


_KINDS = {"string": str, "integer": int, "number": int | float, "boolean": bool, "array": list}


def _fits(value: object, schema: Json) -> bool:
    """Whether a known value may be written as it is. Objects are not: they are filled property by property."""
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    return any(one in _KINDS and isinstance(value, _KINDS[one]) for one in kinds)
