"""Every answer of a test's service, held to our own description and to the vendors' published schemas.

The published files are not part of the project: LUTHIER_SPEC_DIR names their folder, by default ../shared/spec beside
the repository; without it our own description alone is held.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jsonschema_rs
import yaml
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier.api.arm import arm_names
from luthier.api.dialects import dialects
from repository import SPEC_FOLDER

PUBLISHED: dict[str, tuple[str, ...]] = {
    "openai": ("openai-finetuning.trimmed.json", "openai-chat.trimmed.json"),
    "azure": (
        "azure-authoring-2024-10-21.trimmed.json",
        "azure-authoring-2025-04-01-preview.trimmed.json",
        "azure-inference-2024-10-21.openapi3.yaml",
    ),
    "azure-v1": ("azure-v1.trimmed.json",),
    "arm": ("azure-controlplane-deployments-2024-10-01.trimmed.json",),
}
EXCUSED: tuple[tuple[str, str, str], ...] = (
    (
        "azure-v1",
        r'"(organization_id|metadata|validation_file|trained_tokens|result_files|fine_tuned_model|error|finished_at|'
        r'seed|hyperparameters)" is a required property',
        "the published job is OpenAI's; the live service leaves out what is null (wire-contract 6, 20.2)",
    ),
    (
        "azure-v1",
        r'"(pending|pausing|paused)" is not one of "validating_files"',
        "as live answers (wire-contract 20.1)",
    ),
    (
        "azure",
        r'"(pausing|paused)" is not one of "created", "pending"',
        "words of 2025-04-01-preview, which is served too",
    ),
    ("openai", r'"paused" is not one of "validating_files"', "the word of the same file's example of a paused job"),
    ("azure", r'"401" is not one of', "the gateway's codes (wire-contract 15); the enum has authoring's"),
    ("azure", r'"(404|MissingApiVersionParameter)" is not one of', "the gateway's words likewise"),
    ("azure", r'innererror/code: .* is not one of "invalidPayload"', "an enum of one word; ours says what is wrong"),
    ("azure", r'"deprecation" is a required property', "no weights here have a date at which they end"),
    *(
        (dialect, r"(token|top)_logprobs/0: null is not of type", "the vendors' own answers have null there")
        for dialect in ("azure", "azure-v1", "openai")
    ),
    (
        "openai",
        r'logprobs: \{"text_offset":\[0.*"token_logprobs":\[null.* is not valid under any of the schemas',
        "the same where the schema has alternatives",
    ),
    *(
        (dialect, r'purpose: "(evals|user_data|vision)" is not one of', "words of the vendors' other published files")
        for dialect in ("azure", "azure-v1", "openai")
    ),
    *(
        (
            dialect,
            r'data/\d+/embedding: "[A-Za-z0-9+/=]+" is not of type "array"',
            "base64, which the request may ask for",
        )
        for dialect in ("azure", "azure-v1")
    ),
    ("openai", r"n_epochs: \d{2,4} is not valid under any", "a job may ask for more than 50 as luthier.n_epochs"),
    ("openai", r"(first|last)_id: null is not of type", "an empty list of files has no first id to name"),
    ("azure-v1", r"(first|last)_id: null is not of type", "an empty list of files has no first id to name"),
)
"""Dialect, a finding, why it stands: flaws of the published files, and what no true answer could satisfy."""

Schema = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    method: str
    path: str
    status: int
    kind: str
    body: bytes


@dataclass
class Witness:
    """An ASGI application around another one that judges each of its answers."""

    app: ASGIApp
    document: Schema
    findings: list[str] = field(default_factory=list)
    judged: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, kind, body = 0, "", bytearray()

        async def heard(message: Message) -> None:
            nonlocal status, kind
            if message["type"] == "http.response.start":
                status = message["status"]
                kind = dict(message["headers"]).get(b"content-type", b"").decode("latin-1").partition(";")[0]
            else:
                body.extend(message.get("body", b""))
            await send(message)

        await self.app(scope, receive, heard)
        if scope["type"] == "http" and status:
            sent = b"" if scope["method"] == "HEAD" else bytes(body)  # the server keeps it back
            self._judge(Answer(scope["method"], scope["path"], status, kind, sent))

    def _judge(self, answer: Answer) -> None:
        self.judged += 1
        self.findings += [f"{answer.method} {answer.path} {answer.status}: {text}" for text in self.faults(answer)]

    def faults(self, answer: Answer) -> Iterator[str]:
        yield from own_faults(self.document, answer)
        yield from published_faults(answer)


def own_faults(document: Schema, answer: Answer) -> Iterator[str]:
    """What our description does not say: the status, the content type, or anything in the body."""
    found = find(document, answer.path)
    if found is None or answer.method.lower() not in found[1] or answer.status == 431:
        return  # an unknown path or method, or headers that no path takes: the document says so of all paths at once
    path, methods = found
    responses = methods[answer.method.lower()]["responses"]
    if str(answer.status) not in responses:
        yield f"status not described; there are {list(responses)}"
        return
    content = responses[str(answer.status)].get("content", {})
    if not content:
        if answer.body:
            yield "described without a body"
    elif answer.kind not in content:
        yield f"content type {answer.kind} not described"
    elif answer.kind in ("application/json", "text/event-stream"):
        streams = answer.kind == "text/event-stream"
        place = (id(document), path, answer.method, answer.status, streams)
        if place not in _OWN:
            schema = content[answer.kind]["schema"]
            _OWN[place] = _own_validator(document, _of_piece(schema) if streams else schema)
        for text in _pieces(answer.body) if streams else [answer.body]:
            yield from _compare(_OWN[place], json.loads(text), path)


def _of_piece(event: Schema) -> Schema:
    """What one event of a stream is to hold as JSON."""
    (schema,) = [one["contentSchema"] for one in event["properties"]["data"]["anyOf"] if "contentSchema" in one]
    assert isinstance(schema, dict)
    return schema


def _pieces(body: bytes) -> list[bytes]:
    lines = [line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith(b"data: ")]
    return [line for line in lines if line != b"[DONE]"]


_OWN: dict[tuple[int, str, str, int, bool], Any] = {}


def _own_validator(document: Schema, schema: Schema) -> Any:
    components = {name: closed(one) for name, one in document["components"]["schemas"].items()}
    return jsonschema_rs.Draft202012Validator({**closed(schema), "components": {"schemas": components}})


def closed(schema: Any) -> Any:
    """The schema with no room for fields that it does not name: what is not described is found."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(one) for name, one in schema.items()}
    if "properties" in schema and "additionalProperties" not in schema:
        made["additionalProperties"] = False
    return made


def published_faults(answer: Answer) -> Iterator[str]:
    """Where the answer differs from what the vendor publishes for this path and status."""
    if answer.kind != "application/json":
        return
    name, below = _dialect_of(answer.path)
    for file in PUBLISHED.get(name, ()):
        document = published(file)
        found = document and find(document, below)
        operation = found and found[1].get(answer.method.lower())
        if not document or not found or not operation:
            continue
        schema = _schema_of(document, operation, answer.status)
        if schema is not None:
            for text in _compare(_published_validator(file, _frozen(schema)), json.loads(answer.body), file):
                if not any(name == whose and re.search(what, text) for whose, what, _ in EXCUSED):
                    yield text
        return


def _dialect_of(path: str) -> tuple[str, str]:
    if path.startswith(arm_names.PREFIX):
        return "arm", path
    dialect = dialects.of_path(path)
    return dialect.name, path.removeprefix(dialect.prefix)


def _schema_of(document: Schema, operation: Schema, status: int) -> Schema | None:
    responses = operation["responses"]
    response = responses.get(str(status)) or (responses.get("default") if status >= 400 else None)
    if response is None:
        return None
    while "$ref" in response:
        response = _at(document, response["$ref"])
    if "schema" in response:
        schema: Schema | None = response["schema"]  # Swagger 2
    else:
        schema = response.get("content", {}).get("application/json", {}).get("schema")
    return schema


def _at(document: Schema, reference: str) -> Any:
    for part in reference.removeprefix("#/").split("/"):
        document = document[part]
    return document


def find(document: Schema, path: str) -> tuple[str, Schema] | None:
    """The path of a document that an address means: the one with the fewest parameters of those that fit."""
    fitting = [known for known in document["paths"] if _pattern(known).fullmatch(path)]
    best = min(fitting, key=lambda known: known.count("{"), default=None)
    return None if best is None else (best, document["paths"][best])


@cache
def _pattern(path: str) -> re.Pattern[str]:
    *rooms, end = re.split(r"\{[^}]+\}", path)
    if not rooms:
        return re.compile(re.escape(end))
    takes_slashes = path.endswith(("{model_name}", "{model}", "{model-id}"))
    return re.compile("[^/]+".join(map(re.escape, rooms)) + (".+" if takes_slashes else "[^/]+") + re.escape(end))


@cache
def published(file: str) -> Schema | None:
    """A published file in today's JSON Schema; None where the folder is not there."""
    path = SPEC_FOLDER / file
    if not path.exists():
        return None
    read: Callable[[str], Any] = json.loads if path.suffix == ".json" else yaml.safe_load
    made = _modern(read(path.read_text("utf-8")))
    assert isinstance(made, dict)
    return made


_NO_RULES = {"format", "example", "default", "discriminator", "nullable"}
"""Words that forbid nothing; a property of such a name has a schema, which is kept."""
_NO_SCHEMAS = {"x-oaiMeta", "$recursiveAnchor"}


def _modern(schema: Any) -> Any:
    """OpenAPI 3.0's and Swagger's own words in JSON Schema's: nullable, and exclusive limits that are flags."""
    if isinstance(schema, list):
        return [_modern(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _modern(one) for name, one in schema.items() if name not in _NO_RULES or isinstance(one, dict)}
    for name in _NO_SCHEMAS:
        made.pop(name, None)
    for limit in ("Minimum", "Maximum"):
        if schema.get(f"exclusive{limit}") is True:
            made[f"exclusive{limit}"] = made.pop(limit.lower())
    if schema.get("nullable") is True:
        return {"anyOf": [made, {"type": "null"}]}
    return made


@cache
def _published_validator(file: str, schema: str) -> Any:
    document = published(file)
    assert document is not None
    rest: dict[str, Any] = {
        name: document[name] for name in ("components", "definitions", "responses") if name in document
    }
    return jsonschema_rs.Draft202012Validator({**json.loads(schema), **rest})


def _frozen(schema: Schema) -> str:
    return json.dumps(schema, sort_keys=True)


def _compare(validator: Any, body: Any, where: str) -> Iterator[str]:
    for error in validator.iter_errors(body):
        yield f"{where}: at {'/'.join(map(str, error.instance_path)) or 'the top'}: {error.message[:400]}"
