"""`GET /openapi.json` and `/docs`: FastAPI's description of the parameters and bodies, and the answers of our table."""

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.staticfiles import StaticFiles

from luthier.api import arm, dialects
from luthier.api.auth import VERSION
from luthier.api.dialects import Dialect
from luthier.api.operations import (
    ARM_NOUNS,
    JSON,
    MULTIPART,
    NOUNS,
    OPERATIONS,
    Answer,
    One,
    Operation,
    Page,
    Raw,
    Stream,
)
from luthier.api.schemas import examples
from luthier.api.schemas import json_schema as js
from luthier.api.schemas.json_schema import Schema

_ASSETS = "/docs/assets"
_METHODS = ("get", "head", "put", "post", "delete", "patch")
_IN_FRONT = re.compile(r"/(deployments|engines)/\{\w+\}(?=/)")
_ARM_PROVIDER = "/providers/Microsoft.CognitiveServices"
_FASTAPI_ERRORS = ("HTTPValidationError", "ValidationError")
_DESCRIPTION = """Fine-tuning of open-weight models in the words of OpenAI (`/v1`), of Azure OpenAI with a dated
api-version (`/openai`), of Azure OpenAI's v1 (`/openai/v1`), and deployments as Azure Resource Manager speaks of them.

Every answer carries `x-request-id`, which stands in the service's log. Every error is one JSON object in the dialect's
envelope. Beside the statuses listed, any path may answer 405 (with `Allow`) and 431."""
_STATUS_TEXT = {
    400: "The request can never succeed as it stands; `param` names the field",
    401: "No key, or one that opens nothing",
    403: "The key's role does not allow this",
    404: "There is no such thing here",
    409: "The thing is in a state that does not allow this now",
    413: "The body is too large",
    415: "The body is of another content type than the route takes",
    416: "No such range of bytes",
    429: "Too much in too short a time, or more than the quota; `retry-after` says when to come again",
    500: "Something broke; the log has the reason under the request id",
    503: "Cannot be done right now; the same request may succeed later",
    507: "A disk is full",
}
_ERROR_HEADERS = {416: ("Content-Range",), 429: ("retry-after", "retry-after-ms")}


def add(app: FastAPI) -> None:
    """The document, and an interactive page over it that needs no internet: its assets come with a package."""
    made: list[Schema] = []

    @app.get("/openapi.json", include_in_schema=False)
    def openapi() -> JSONResponse:
        if not made:
            made.append(document(app))
        return JSONResponse(made[0])

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="../openapi.json",
            title="Luthier",
            swagger_js_url=f"..{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"..{_ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"..{_ASSETS}/favicon.png",
            # Without this the page shows the document to a validator on the internet.
            swagger_ui_parameters={"validatorUrl": None, "persistAuthorization": True},
        )

    app.mount(_ASSETS, StaticFiles(packages=[("fastapi_offline", "static")]))


def document(app: FastAPI) -> Schema:
    """The whole description. A route without a row in the table keeps what FastAPI knows of it."""
    made = copy.deepcopy(app.openapi())  # FastAPI keeps its own
    made["info"]["description"] = _DESCRIPTION
    components = made.setdefault("components", {})
    components["schemas"] = _schemas(components.get("schemas", {}))
    components["securitySchemes"] = {
        "api-key": {"type": "apiKey", "in": "header", "name": "api-key", "description": "As Azure's SDKs send it."},
        "bearer": {"type": "http", "scheme": "bearer", "description": "The key as `Authorization: Bearer KEY`."},
    }
    for path, method, described in _described(made):
        row = OPERATIONS.get((method, row_path(path)))
        if row is not None:
            _describe(described, path, method, row)
    return made


def missing(app: FastAPI) -> list[str]:
    """The routes that have no row."""
    every = _described(app.openapi())
    return [f"{method.upper()} {path}" for path, method, _ in every if (method, row_path(path)) not in OPERATIONS]


def row_path(path: str) -> str:
    """The path as the table writes it: without the dialect's prefix, or the control plane's."""
    if path.startswith(arm.PREFIX):
        return path.partition(_ARM_PROVIDER)[2]
    dialect = dialects.of_path(path)
    below = path.removeprefix(dialect.prefix) if path.startswith(dialect.prefix + "/") else path
    bare = _IN_FRONT.sub("", below, count=1)
    return bare if any(known == bare for _, known in OPERATIONS) else below


def _described(made: Schema) -> Iterator[tuple[str, str, Schema]]:
    for path, methods in made["paths"].items():
        for method in _METHODS:
            if method in methods:
                yield path, method, methods[method]


def _schemas(of_bodies: dict[str, Schema]) -> dict[str, Schema]:
    made = {name: _exact(schema) for name, schema in of_bodies.items() if name not in _FASTAPI_ERRORS}
    for dialect in dialects.DIALECTS:
        made |= {f"{dialect.name}.{noun}": shape(dialect) for noun, shape in NOUNS.items()}
    return made | {f"arm.{noun}": shape() for noun, shape in ARM_NOUNS.items()}


def _exact(schema: Any) -> Any:
    """Limits of 64 bits as they were written: FastAPI keeps a limit as a float, which rounds them up."""
    match schema:
        case dict():
            return {name: _exact(one) for name, one in schema.items()}
        case list():
            return [_exact(one) for one in schema]
        case float() if abs(schema) >= 2**53:
            return 2**63 - 1 if schema == 2.0**63 else int(schema)
        case _:
            return schema


def _describe(described: Schema, path: str, method: str, row: Operation) -> None:
    dialect = None if path.startswith(arm.PREFIX) else dialects.of_path(path)
    described["summary"] = row.says
    own = {parameter["name"] for parameter in row.parameters}
    parameters = [one for one in described.get("parameters", []) if one["name"] not in own] + list(row.parameters)
    described["parameters"] = parameters
    known = {parameter["name"] for parameter in parameters}
    parameters += [_path_parameter(name) for name in re.findall(r"\{(\w+)\}", path) if name not in known]
    if row.form is not None and dialect is not None:
        described["requestBody"] = {"required": True, "content": {MULTIPART: {"schema": row.form(dialect)}}}
    elif row.example is not None and "requestBody" in described:
        described["requestBody"]["content"][JSON]["example"] = row.example
    if row.needs_key:
        described["security"] = [{"api-key": []}, {"bearer": []}]
        parameters.append(_version(dialect))
    described["responses"] = _responses(dialect, path, method, row, "requestBody" in described)


def _path_parameter(name: str) -> Schema:
    """One that the route reads from the request itself: the names in a path of the control plane."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _version(dialect: Dialect | None) -> Schema:
    """Any date in the dialects; the control plane, which old clients ask with anything, looks at it not at all."""
    schema = {"type": "string"} if dialect is None else {"type": "string", "pattern": f"^({VERSION.pattern})$"}
    return {
        "name": "api-version",
        "in": "query",
        "required": dialect is not None and dialect.needs_api_version,
        "schema": schema,
        "example": "2024-10-21",
        "description": "Every version is served alike.",
    }


def _responses(dialect: Dialect | None, path: str, method: str, row: Operation, has_body: bool) -> Schema:
    status = dialect.created_status if row.creates and dialect is not None else row.status
    found = {str(status): _answer(dialect, row.answers, row.says, row.headers)}
    if row.creates and dialect is not None and dialect.sends_location:
        found[str(status)]["headers"]["Location"] = {"schema": {"type": "string"}, "required": True}
    for code, answers in (row.also or {}).items():
        headers = (*row.headers, "Content-Range") if code == 206 else row.headers
        found[str(code)] = _answer(dialect, answers, row.says, headers)
    said: dict[str, Answer] = {} if method == "head" else {JSON: One("error")}
    for code in _error_statuses(path, method, row, has_body):
        found[str(code)] = _answer(dialect, said, _STATUS_TEXT[code], _ERROR_HEADERS.get(code, ()))
    return dict(sorted(found.items()))


def _error_statuses(path: str, method: str, row: Operation, has_body: bool) -> set[int]:
    if not row.needs_key:
        return {500}
    found = {400, 401, 403, 429, 500, *row.errors}
    if "{" in path:
        found.add(404)
    if method not in ("get", "head"):
        found |= {409, 413, 507}
    return found | {415} if has_body else found


def _answer(dialect: Dialect | None, answers: Mapping[str, Answer], says: str, headers: tuple[str, ...] = ()) -> Schema:
    request_id = {"schema": {"type": "string"}, "description": "Stands in the log.", "required": True}
    made: Schema = {
        "description": says,
        "headers": {"x-request-id": request_id} | {name: {"schema": {"type": "string"}} for name in headers},
    }
    if answers:
        made["content"] = {kind: _content(dialect, answer) for kind, answer in answers.items()}
    return made


def _content(dialect: Dialect | None, answer: Answer) -> Schema:
    match answer:
        case One(noun):
            example = _example(dialect, noun)
            schema = _reference(dialect, noun)
        case Page(noun):
            one = _example(dialect, noun)
            example = dialect.page([one], False) if dialect is not None and one is not None else None
            schema = _page(_reference(dialect, noun))
        case Stream(noun):
            return {"schema": _stream(_reference(dialect, noun), _reference(dialect, "error"))}
        case Raw(given):
            return {"schema": given}
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _stream(item: Schema, error: Schema) -> Schema:
    """One event of a stream; JSON Schema's own words for a text that is JSON."""
    piece = js.TEXT | {"contentMediaType": JSON, "contentSchema": js.either(item, error)}
    return js.thing({"data": js.either(js.const("[DONE]"), piece)})


def _example(dialect: Dialect | None, noun: str) -> Schema | None:
    if noun == "error":
        shape: Callable[[Any], Schema] = arm.error if dialect is None else dialect.error
        return shape(examples.REFUSED)
    return None if dialect is None else examples.of(noun, dialect)


def _reference(dialect: Dialect | None, noun: str) -> Schema:
    return {"$ref": f"#/components/schemas/{'arm' if dialect is None else dialect.name}.{noun}"}


def _page(item: Schema) -> Schema:
    cursor = js.or_null(js.TEXT)
    return js.thing(
        {
            "object": js.const("list"),
            "data": js.listed(item),
            "has_more": js.FLAG | {"description": "Ask again with after=last_id."},
            "first_id": cursor,
            "last_id": cursor,
        }
    )
