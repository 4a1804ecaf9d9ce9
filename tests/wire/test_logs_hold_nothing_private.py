"""No text of a user, no key and no value of a statement in any log, at any level, whatever goes right or wrong."""

import json
import logging
from collections.abc import Iterator
from io import StringIO
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text

import walk
from fakes import BASE, KEY, EchoEngine, ScriptedExecutor
from luthier.api.arm import arm_names
from luthier.core.models import Principal
from luthier.process import logs
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Failed
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.tenants import keys
from luthier.service.tenants.keys import DEFAULT_RESOURCE

MARK = "marked text"
"""In every place with a number behind it; the space keeps it from being an id, which a log may have."""
WHOLE = "markedkeyorsuffix"
"""Where no space can be: in keys, suffixes and hosts."""
HEADERS = {"api-key": KEY, "user-agent": f"{MARK} 1", "x-anything": f"{MARK} 2", "cookie": f"session={MARK} 3"}
TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": f"{MARK} 4",
        "parameters": {"type": "object", "properties": {f"{MARK} 5": {"type": "string", "enum": [f"{MARK} 6"]}}},
    },
}
ROW = {"messages": [{"role": "user", "content": f"{MARK} 7"}, {"role": "assistant", "content": f"{MARK} 8"}]}


@pytest.fixture(params=[logs.Lines, logs.JsonLines])
def log(request: pytest.FixtureRequest) -> Iterator[StringIO]:
    """What the service would write with every logger of the process at DEBUG, and nothing left out for its level."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(request.param())
    names = [None, *logging.root.manager.loggerDict]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    yield stream
    if request.param is logs.JsonLines:
        assert all(isinstance(json.loads(line), dict) for line in stream.getvalue().splitlines())
    logging.getLogger().removeHandler(handler)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


_client = httpx2.Client(timeout=60)
"""One for all: making one costs more than ten requests."""


def ask(url: str, method: str, path: str, **given: Any) -> int:
    headers = HEADERS | given.pop("headers", {})
    return _client.request(method, url + path, headers=headers, **given).status_code


def upload(url: str, content: bytes, **fields: str) -> str:
    form = {"file": (f"{MARK} 9.jsonl", content), "purpose": (None, fields.pop("purpose", "fine-tune"))}
    answer = _client.post(
        f"{url}/v1/files", headers=HEADERS, files=form | {name: (None, value) for name, value in fields.items()}
    )
    return str(answer.json().get("id"))


def assert_nothing_private(log: StringIO, context: Context, *more: str) -> None:
    for told in (log.getvalue(), context.audit_file.read_text() if context.audit_file.exists() else ""):
        for private in (MARK, quote(MARK), WHOLE, KEY, *more):
            assert private not in told, told[max(0, told.index(private) - 300) :][:600]


def test_every_route_asked_rightly_and_wrongly(app: FastAPI, url: str, context: Context, log: StringIO) -> None:
    marked = dict.fromkeys(walk.NEVER, quote(f"{MARK} 10", safe=""))
    wrong = json.dumps({"model": f"{MARK} 11", f"{MARK} 12": [f"{MARK} 13"], "messages": f"{MARK} 14"}).encode()
    for call in walk.calls(app):
        torn = f"{{{MARK} 15".encode()
        for values, body in (
            (walk.NEVER, {"json": call.body}),
            (marked, {"content": wrong}),
            (marked, {"content": torn}),
        ):
            path = f"{call.path(values)}&{quote(MARK)}={quote(MARK)}&after={quote(MARK)}&limit={quote(MARK)}"
            ask(url, call.method, path, **body, headers={"content-type": "application/json"})
        ask(url, call.method, call.path(walk.NEVER), headers={"api-key": WHOLE, "authorization": f"Bearer {WHOLE}"})
    lines = log.getvalue().splitlines()
    assert sum("luthier.api.http.request_log" in line and "request id=" in line for line in lines) > 200
    assert_nothing_private(log, context)


def test_files_uploads_and_imports_that_succeed_and_fail(
    url: str, context: Context, supervisor: Supervisor, log: StringIO
) -> None:
    upload(url, json.dumps(ROW).encode() * 12, **{f"{MARK} 16": f"{MARK} 17"})
    upload(url, f"{MARK} 18\n{{".encode(), purpose=f"{MARK} 19")
    address = f"https://user:{WHOLE}@127.0.0.1/{quote(MARK)}?sig={WHOLE}"
    for given in (address, f"https://{WHOLE}.invalid/{WHOLE}?sig={WHOLE}", f"{MARK} 20"):
        body: dict[str, object] = {"purpose": "fine-tune", "filename": f"{MARK} 21", "content_url": given}
        ask(url, "POST", "/openai/v1/files/import", json=body)
    body = {"filename": f"{MARK} 22", "purpose": "fine-tune", "bytes": 3, "mime_type": "text/jsonl"}
    made = _client.post(f"{url}/v1/uploads", headers=HEADERS, json=body).json()["id"]
    ask(url, "POST", f"/v1/uploads/{made}/parts", files={"data": (f"{MARK} 23", b"abc")})
    ask(url, "POST", f"/v1/uploads/{made}/complete", json={"part_ids": [f"{MARK} 24"], "md5": f"{MARK} 25"})
    ask(url, "GET", f"/v1/files/{quote(MARK)}/content")
    supervisor.tick()
    supervisor.tick()
    assert "import ended file=" in log.getvalue()
    assert "file checked id=" in log.getvalue()
    assert_nothing_private(log, context)


def test_job_from_its_rows_to_its_model_and_one_whose_trainer_fails(
    url: str, context: Context, supervisor: Supervisor, executor: ScriptedExecutor, log: StringIO
) -> None:
    file = upload(url, b"\n".join(json.dumps(ROW | {"metadata": {"n": n}}).encode() for n in range(12)))
    good = upload(url, b"\n".join(json.dumps({"messages": varied(n)}).encode() for n in range(12)))
    asked: dict[str, Any] = {"model": BASE, "metadata": {f"{MARK} 26": f"{MARK} 27"}, "suffix": WHOLE}
    for training_file in (file, good, f"{MARK} 28"):
        ask(url, "POST", "/v1/fine_tuning/jobs", json=asked | {"training_file": training_file})
    for _ in range(6):
        supervisor.tick()
    tuned = [model["id"] for model in _client.get(f"{url}/v1/models", headers=HEADERS).json()["data"]][-1]
    assert WHOLE in tuned
    sku = {"sku": {"name": "Standard"}, "tags": {f"{MARK} 29": f"{MARK} 30"}}
    ask(
        url,
        "PUT",
        f"{arm_names.path_of(DEFAULT_RESOURCE)}/d",
        json=sku | {"properties": {"model": {"name": tuned}}},
    )
    supervisor.tick_deployments()
    ask(url, "POST", "/v1/chat/completions", json={"model": "d", "messages": ROW["messages"][:1]})
    ask(url, "DELETE", f"{arm_names.path_of(DEFAULT_RESOURCE)}/d")

    def fails(run: RunDirectory) -> None:
        run.append(Failed(at=1.0, code="internal_error", message=f"{MARK} 31", param=f"{MARK} 32"))

    def breaks(run: RunDirectory) -> None:
        raise RuntimeError(f"{MARK} 33")

    for trainer in (fails, breaks):
        executor.trainer = trainer
        ask(url, "POST", "/v1/fine_tuning/jobs", json=asked | {"training_file": good})
        for _ in range(4):
            supervisor.tick()
    for line in (
        "job ended id=",
        "parity model=ftchkpt-",
        "deployment put name=d",
        "status=failed",
        "builtins.RuntimeError",
    ):
        assert line in log.getvalue(), line
    assert_nothing_private(log, context)


def test_chats_with_tools_and_schemas_and_an_engine_that_refuses(
    url: str, context: Context, engine: EchoEngine, log: StringIO
) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": TOOL["function"]["parameters"]}}
    question = {"role": "user", "content": f"{MARK} 34"}
    for more in (
        {},
        {"stream": True},
        {"tools": [TOOL], "user": f"{MARK} 35", "stop": [f"{MARK} 36"]},
        {"response_format": schema, "metadata": {f"{MARK} 37": f"{MARK} 38"}},
        {"logit_bias": {f"{MARK} 39": 1}},
        {"messages": [question, {"role": "user", "content": "too long"}]},
        {"messages": [{"role": f"{MARK} 40", "content": f"{MARK} 41"}]},
        {"model": f"{MARK} 42"},
    ):
        engine.says = [f"{MARK} 43"]
        ask(url, "POST", "/v1/chat/completions", json={"model": BASE, "messages": [question]} | more)
    ask(url, "POST", "/v1/completions", json={"model": BASE, "prompt": f"{MARK} 44"})
    engine.close()
    ask(url, "POST", "/v1/chat/completions", json={"model": BASE, "messages": [question]})
    assert_nothing_private(log, context)


def test_database_that_breaks_under_requests_and_ticks(
    url: str, context: Context, caller: Principal, supervisor: Supervisor, log: StringIO
) -> None:
    made = keys.create(context, caller.resource.id, "ci", next(iter(caller.roles)))
    body = {"purpose": "fine-tune", "filename": f"{MARK} 45", "content_url": f"https://{WHOLE}.invalid/?sig={WHOLE}"}
    ask(url, "POST", "/openai/v1/files/import", json=body)
    with context.database.writing() as tx:
        for table in ("files", "jobs"):
            tx.execute(text(f"ALTER TABLE {table} RENAME TO {table}_gone"))
    closed = {"connection": "close"}  # the server ends a connection whose request broke
    statuses = {
        ask(url, "GET", f"/v1/files/{quote(MARK)}", headers=closed),
        ask(url, "GET", f"/v1/fine_tuning/jobs?metadata[{quote(MARK)}]={quote(MARK)}", headers=closed),
        ask(url, "POST", "/openai/v1/files/import", json=body, headers=closed),
    }
    assert statuses == {500}
    for job in ("imports", "runs", "storage"):
        with pytest.raises(Exception, match=r"no such table|does not exist") as caught:
            getattr(supervisor, f"tick_{job}")()
        logging.getLogger("luthier.service.background.supervisor").error(
            "tick failed loop=%s", job, exc_info=caught.value
        )
    is_sqlite = context.database.path is not None
    kind = "sqlite3.OperationalError [SQLITE_ERROR]" if is_sqlite else "psycopg.errors.UndefinedTable [42P01]"
    assert kind in log.getvalue()
    assert "bug in request id=" in log.getvalue()
    assert_nothing_private(log, context, made)


def varied(n: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{MARK} {n}?"}, {"role": "assistant", "content": f"{MARK} {n + 1}."}]
