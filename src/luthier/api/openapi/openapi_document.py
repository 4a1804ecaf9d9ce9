"""`GET /openapi.json` and `/docs`: parameters and bodies from FastAPI, replies from each route's declaration.

Docstrings of endpoints, bodies and answer types are published in it as descriptions.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from msgspec import Struct
from starlette.staticfiles import StaticFiles

from luthier.api.arm import arm_names
from luthier.api.arm.arm_answers import ArmError
from luthier.api.auth.authentication import VERSION
from luthier.api.dialects import answer, dialects
from luthier.api.dialects.dialects import Dialect
from luthier.api.dialects.error_answers import ErrorAnswer
from luthier.api.openapi import answer_schemas, example_answers
from luthier.api.routing import json_schema as js
from luthier.api.routing.guarded_route import GuardedRoute
from luthier.api.routing.json_schema import Schema
from luthier.api.routing.operation import JSON, MULTIPART, Content, EventStreamOf, PageOf, Reply

_ASSETS = "/docs/assets"
_FASTAPI_ERRORS = ("HTTPValidationError", "ValidationError")
_DESCRIPTION = """Fine-tuning of open-weight models over the API of OpenAI (`/v1`), of Azure OpenAI with a dated
api-version (`/openai`), of Azure OpenAI's v1 (`/openai/v1`), and deployments over that of Azure Resource Manager.

Every answer has `x-request-id`, the id of the request's log lines. Every error is one JSON object in the dialect's
envelope. Beside the statuses listed, any path may answer 405 (with `Allow`) and 431."""
_STATUS_TEXT = {
    400: "The request is invalid; `param` names the field",
    401: "No key, or an unknown one",
    403: "The key's role does not allow this",
    404: "Not found",
    408: "The body stopped, or arrived too slowly",
    409: "The state of the resource does not allow this now",
    413: "The body is too large",
    415: "The route does not take this content type",
    416: "No such range of bytes",
    429: "Rate limit or quota exceeded; `retry-after` says when to try again",
    500: "Internal error; the log has the reason under the request id",
    503: "Temporarily unavailable; the same request may succeed later",
    507: "A disk is full",
}
_REQUEST_ID = {"schema": {"type": "string"}, "description": "The id of the request's log lines.", "required": True}
_ERROR_HEADERS = {416: ("Content-Range",), 429: ("retry-after", "retry-after-ms")}


def add_routes(app: FastAPI) -> None:
    """Adds to `app` the document, and a page over it whose assets come with a package: it needs no internet."""
    built: list[Schema] = []

    @app.get("/openapi.json", include_in_schema=False)
    def openapi() -> JSONResponse:
        """The document, built at the first request and kept."""
        if not built:
            built.append(document(app))
        return JSONResponse(built[0])

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        """The page, which loads the document and its scripts by relative URLs, also behind a proxy's prefix."""
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
    """The OpenAPI document of the routes that declare an operation; FastAPI's own draft of it is kept unchanged."""
    routes = [route for route in app.routes if isinstance(route, GuardedRoute)]
    types = [kind for route in routes for kind in _answer_types(route)]
    references, schemas = answer_schemas.components(types)
    described = copy.deepcopy(app.openapi())  # FastAPI keeps its own
    described["info"]["description"] = _DESCRIPTION
    components = described.setdefault("components", {})
    of_bodies = components.get("schemas", {})
    components["schemas"] = {
        name: _exact(schema) for name, schema in of_bodies.items() if name not in _FASTAPI_ERRORS
    } | schemas
    components["securitySchemes"] = {
        "api-key": {"type": "apiKey", "in": "header", "name": "api-key", "description": "As Azure's SDKs send it."},
        "bearer": {"type": "http", "scheme": "bearer", "description": "The key as `Authorization: Bearer KEY`."},
    }
    for route in routes:
        for method in route.methods or ():
            _describe(described["paths"][route.path_format][method.lower()], route, method, references)
    return described


def _answer_types(route: GuardedRoute) -> Iterator[type]:
    """The answer types of a route, its error's included: those of replies whose schema is not written by hand."""
    yield _error_type(route)
    for reply in route.operation.replies:
        for content in reply.content.values():
            match content:
                case PageOf(item):
                    yield answer_schemas.page_type(item)
                case EventStreamOf(item) if not isinstance(item, dict):
                    yield item
                case dict() | EventStreamOf():
                    pass
                case _:
                    yield content


def _dialect(route: GuardedRoute) -> Dialect | None:
    """The dialect of a route; None for the control plane."""
    return None if route.path.startswith(arm_names.PREFIX) else dialects.of_path(route.path)


def _error_type(route: GuardedRoute) -> type[ErrorAnswer]:
    """The envelope in which a route's errors are sent."""
    dialect = _dialect(route)
    return ArmError if dialect is None else dialect.error


def _exact(schema: Any) -> Any:
    """A copy of the schema with exact limits of 64 bits: FastAPI keeps them as floats, which rounds them up."""
    match schema:
        case dict():
            return {name: _exact(part) for name, part in schema.items()}
        case list():
            return [_exact(part) for part in schema]
        case float() if abs(schema) >= 2**53:
            return 2**63 - 1 if schema == 2.0**63 else int(schema)
        case _:
            return schema


def _describe(described: Schema, route: GuardedRoute, method: str, references: Mapping[type, Schema]) -> None:
    """Completes FastAPI's operation in place: summary, parameters, form or example of the body, security, responses."""
    operation = route.operation
    described["summary"] = operation.summary
    declared = {parameter["name"] for parameter in operation.parameters}
    parameters = [one for one in described.get("parameters", []) if one["name"] not in declared]
    parameters += operation.parameters
    described["parameters"] = parameters
    names = {parameter["name"] for parameter in parameters}
    parameters += [_path_parameter(name) for name in route.param_convertors if name not in names]
    if operation.form is not None:
        described["requestBody"] = {"required": True, "content": {MULTIPART: {"schema": operation.form}}}
    elif operation.example is not None and "requestBody" in described:
        described["requestBody"]["content"][JSON]["example"] = operation.example
    if operation.action is not None:
        described["security"] = [{"api-key": []}, {"bearer": []}]
        parameters.append(_version(_dialect(route)))
    described["responses"] = _responses(route, method, "requestBody" in described, references)


def _responses(route: GuardedRoute, method: str, has_body: bool, references: Mapping[type, Schema]) -> Schema:
    """Every response of a route by method, by status as text; a reply with content replaces an error's."""
    responses = {
        status: _error_response(status, method, route, references)
        for status in _error_statuses(route, method, has_body)
    }
    for reply in route.operation.replies:
        if reply.content or reply.status not in responses:
            responses[reply.status] = _response(route.operation.summary, reply, route, references)
    return {str(status): response for status, response in sorted(responses.items())}


def _path_parameter(name: str) -> Schema:
    """One that the route reads from the request itself: the names in a path of the control plane."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _version(dialect: Dialect | None) -> Schema:
    """The parameter api-version: a date in the dialects; the control plane, called with anything, ignores it."""
    schema = {"type": "string"} if dialect is None else {"type": "string", "pattern": f"^({VERSION.pattern})$"}
    return {
        "name": "api-version",
        "in": "query",
        "required": dialect is not None and dialect.needs_api_version,
        "schema": schema,
        "example": "2024-10-21",
        "description": "Every version is served alike.",
    }


def _error_statuses(route: GuardedRoute, method: str, has_body: bool) -> set[int]:
    """The error statuses that follow from method, path and body, and those declared; only 500 without a key."""
    if route.operation.action is None:
        return {500}
    statuses = {400, 401, 403, 429, 500, 503, *route.operation.errors}  # 503: the database may be away
    if "{" in route.path:
        statuses.add(404)
    if method not in ("GET", "HEAD"):
        statuses |= {408, 409, 413, 507}
    return statuses | {415} if has_body else statuses


def _response(summary: str, reply: Reply, route: GuardedRoute, references: Mapping[type, Schema]) -> Schema:
    """A successful reply with its headers, and its schema by media type."""
    headers: Schema = {name: {"schema": {"type": "string"}} for name in reply.headers}
    headers |= {name: {"schema": {"type": "string"}, "required": True} for name in reply.required_headers}
    response: Schema = {"description": summary, "headers": {"x-request-id": _REQUEST_ID} | headers}
    if reply.content:
        response["content"] = {
            media_type: _content(content, route, references) for media_type, content in reply.content.items()
        }
    return response


def _error_response(status: int, method: str, route: GuardedRoute, references: Mapping[type, Schema]) -> Schema:
    """An error's response with its headers, and the dialect's envelope with an example; no body for HEAD."""
    headers = {name: {"schema": {"type": "string"}} for name in _ERROR_HEADERS.get(status, ())}
    response: Schema = {"description": _STATUS_TEXT[status], "headers": {"x-request-id": _REQUEST_ID} | headers}
    if method != "HEAD":
        error = _error_type(route)
        example = _plain(error.from_error(example_answers.REFUSED))
        response["content"] = {JSON: {"schema": references[error], "example": example}}
    return response


def _content(content: Content, route: GuardedRoute, references: Mapping[type, Schema]) -> Schema:
    """The schema of a body, and its example if there is one for the type."""
    example: Struct | None
    match content:
        case dict():
            return {"schema": content}
        case EventStreamOf(item):
            schema = item if isinstance(item, dict) else references[item]
            return {"schema": _stream(schema, references[_error_type(route)])}
        case PageOf(item):
            schema, item_example = references[answer_schemas.page_type(item)], example_answers.EXAMPLES.get(item)
            example = None if item_example is None else answer.page([item_example], has_more=False)
        case _:
            schema, example = references[content], example_answers.EXAMPLES.get(content)
    return {"schema": schema} if example is None else {"schema": schema, "example": _plain(example)}


def _stream(item: Schema, error: Schema) -> Schema:
    """The schema of one event of a stream; JSON Schema's own keywords for a text that is JSON."""
    text = js.TEXT | {"contentMediaType": JSON, "contentSchema": js.either(item, error)}
    return js.object_schema({"data": js.either(js.const("[DONE]"), text)})


def _plain(example: object) -> object:
    """The example as a client parses it."""
    plain: object = msgspec.json.decode(msgspec.json.encode(example))
    return plain
