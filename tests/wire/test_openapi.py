"""The description of the wire: whole, true, readable by tools, and browsable without the internet."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import jsonschema_rs
import pytest

from answers import Answer, closed, find, own_faults, published_faults
from fakes import KEY
from repository import SPEC_FOLDER

Document = dict[str, Any]


@pytest.fixture
def document(url: str) -> Document:
    made: Document = httpx2.get(f"{url}/openapi.json").json()
    return made


def operations(document: Document) -> Iterator[tuple[str, Document]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_is_typed_from_body_to_errors(document: Document) -> None:
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["tags"], name
        for body in operation.get("requestBody", {}).get("content", {}).values():
            assert body["schema"], name
        for status, response in operation["responses"].items():
            assert "x-request-id" in response["headers"], name
            for kind, content in response.get("content", {}).items():
                assert content["schema"], (name, status, kind)
        if not {"health", "identity"} & set(operation["tags"]):
            assert operation["security"] == [{"api-key": []}, {"bearer": []}], name
            assert {"400", "401", "429", "500"} <= set(operation["responses"]), name
            (version,) = [one for one in operation["parameters"] if one["name"] == "api-version"]
            assert version["required"] == ("azure" in operation["tags"]), name


def test_descriptions_are_for_callers(document: Document) -> None:
    """No file of the project, no abbreviation of an API version, no word of Python; and no module in a name."""
    inner = re.compile(r"wire-contract|\.(?:py|md)\b|\b(?:A\d{4}|AV1|OAI|None|True|False)\b|`[A-Z_]+`")
    described = re.findall(r'"(?:description|summary)": ("(?:[^"\\]|\\.)*")', json.dumps(document))
    assert [text for text in described if inner.search(text)] == []
    assert [name for name in document["components"]["schemas"] if name.startswith("luthier__")] == []


def test_every_reference_leads_somewhere_and_every_schema_is_one(document: Document) -> None:
    schemas = document["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= set(schemas)
    for schema in schemas.values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_examples_are_as_their_schemas_say(document: Document) -> None:
    shown = 0
    components = {name: closed(schema) for name, schema in document["components"]["schemas"].items()}
    for name, operation in operations(document):
        contents = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in [one for each in contents for one in each.get("content", {}).values()]:
            if "example" in content:
                shown += 1
                schema = {**closed(content["schema"]), "components": {"schemas": components}}
                faults = [
                    error.message
                    for error in jsonschema_rs.Draft202012Validator(schema).iter_errors(content["example"])
                ]
                assert not faults, (name, faults)
    assert shown > 100


def test_dialects_differ_where_their_vendors_do(document: Document) -> None:
    schemas = document["components"]["schemas"]
    assert "error" in schemas["OpenAIJob"]["required"]
    assert "error" not in schemas["AzureJob"]["required"]
    assert "validating_files" in schemas["OpenAIJob"]["properties"]["status"]["enum"]
    assert "pending" in schemas["AzureJob"]["properties"]["status"]["enum"]
    assert "201" in document["paths"]["/openai/files"]["post"]["responses"]
    assert "200" in document["paths"]["/v1/files"]["post"]["responses"]


def test_docs_page_needs_nothing_from_elsewhere(url: str) -> None:
    page = httpx2.get(f"{url}/docs")
    assert page.status_code == 200
    addresses = re.findall(r'(?:src|href|url:? ?)=?"?\'?((?:https?:)?[./][^"\'\s,]+)', page.text)
    assert len(addresses) >= 3
    for address in addresses:
        assert not address.startswith(("http", "//")), address
        found = httpx2.get(httpx2.URL(f"{url}/docs").join(address))
        assert found.status_code == 200, address
    assert '"validatorUrl": null' in page.text


@pytest.mark.parametrize(
    ("status", "kind", "body", "fault"),
    [
        (200, "application/json", b'{"id": "file-1", "object": "file", "deleted": true}', None),
        (200, "application/json", b'{"id": "file-1", "object": "file"}', "required"),
        (200, "application/json", b'{"id": "1", "object": "file", "deleted": true, "more": 1}', "more"),
        (200, "text/html", b"", "content type"),
        (418, "application/json", b"{}", "status not described"),
        (404, "application/json", b'{"error": "gone"}', "object"),
    ],
)
def test_answer_that_is_not_as_described_is_found(
    document: Document, status: int, kind: str, body: bytes, fault: str | None
) -> None:
    faults = list(own_faults(document, Answer("DELETE", "/v1/files/file-1", status, kind, body)))
    assert not faults if fault is None else any(fault in text for text in faults)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"error": {"message": "m", "type": "server_error", "param": null, "code": "c"}}', None),
        (b'{"id": "ftevent-1"}', "anyOf"),
    ],
)
def test_piece_of_a_stream_that_is_not_as_described_is_found(
    document: Document, line: bytes, fault: str | None
) -> None:
    body = b"data: " + line + b"\n\n: a comment\n\ndata: [DONE]\n\n"
    streamed = Answer("GET", "/v1/fine_tuning/jobs/ftjob-1/events", 200, "text/event-stream", body)
    faults = list(own_faults(document, streamed))
    assert not faults if fault is None else any(fault in text for text in faults), faults


def test_answer_that_is_not_as_published_is_found() -> None:
    if not SPEC_FOLDER.exists():
        pytest.skip("the published schemas are not here; LUTHIER_SPEC_DIR names their folder")
    for prefix in ("/v1", "/openai", "/openai/v1"):
        job = Answer(
            "GET", f"{prefix}/fine_tuning/jobs/ftjob-1", 200, "application/json", b'{"id": 1, "status": "odd"}'
        )
        assert any("status" in text for text in published_faults(job)), prefix


def test_path_with_fewer_parameters_is_meant_first(document: Document) -> None:
    found = find(document, "/v1/models/a/b")
    assert found is not None
    assert found[0] == "/v1/models/{model_name}"
    assert KEY not in json.dumps(document)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("TRACE", "/v1/files", "GET, POST"),
        ("PATCH", "/v1/files/file-1", "GET, DELETE"),
        ("DELETE", "/openai/fine_tuning/jobs/ftjob-1/cancel?api-version=2024-10-21", "POST"),
        ("PATCH", "/v1/files/import", "POST"),
    ],
)
def test_wrong_method_is_told_every_right_one(url: str, method: str, path: str, allowed: str) -> None:
    answer = httpx2.request(method, url + path, headers={"api-key": KEY})
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    assert answer.headers["allow"] in answer.json()["error"]["message"]


def test_empty_cursor_is_the_first_page(url: str) -> None:
    answer = httpx2.get(f"{url}/v1/files?after=", headers={"api-key": KEY})
    assert answer.status_code == 200
