"""Batches by the official SDK, in every dialect: requests become a file of answers, or the batch says what is wrong."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai import AzureOpenAI, OpenAI

import batch_runs
import control_plane
import rows
from batch_runs import CHAT, chat, content, upload
from fakes import BASE, KEY, EchoEngine, engine_calls
from luthier.api.requests.chat_bodies import ChatBody
from luthier.api.routes.inference.batch_lines import BatchLines
from luthier.api.services import Services
from luthier.core.engine_ports import Capacity
from luthier.core.models import Resource
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.service.background.supervisor import Supervisor
from luthier.service.batches.input_lines import MAX_FAULTS
from luthier.service.context import Context
from luthier.service.inference import model_routing
from luthier.service.models.serving import Serving
from luthier.service.tenants import audit, keys
from luthier.service.tenants.rate_limits import RateLimits
from luthier.store.queries import resources

Serve = Callable[[], None]
DEPLOYMENT = "clippy"


@pytest.fixture(params=["openai", "azure", "azure-v1"])
def strict(request: pytest.FixtureRequest, url: str) -> Iterator[OpenAI]:
    """A client of each dialect that checks every answer against the SDK's own types."""
    options: dict[str, Any] = {"api_key": KEY, "max_retries": 0, "_strict_response_validation": True}
    if request.param == "azure":
        made: OpenAI = AzureOpenAI(azure_endpoint=url, api_version="2024-10-21", **options)
    else:
        made = OpenAI(base_url=url + {"openai": "/v1", "azure-v1": "/openai/v1"}[request.param], **options)
    with made:
        yield made


@pytest.fixture
def serve(context: Context, serving: Serving, grammars: GrammarChecker) -> Serve:
    return lambda: batch_runs.serve(context, serving, grammars)


@pytest.fixture
def deployed(url: str, supervisor: Supervisor) -> str:
    assert control_plane.put(url, DEPLOYMENT, BASE).status_code == 201
    supervisor.tick_deployments()
    return DEPLOYMENT


def create(client: OpenAI, file_id: str, endpoint: Any = CHAT, **more: Any) -> openai.types.Batch:
    return client.batches.create(input_file_id=file_id, endpoint=endpoint, completion_window="24h", **more)


def without_ids(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in {"id", "created"}}


def test_batch_is_answered_as_the_live_route_answers_in_every_dialect(
    strict: OpenAI, serve: Serve, deployed: str
) -> None:
    lines = [chat(f"q{number}", f"question {number}", deployed, temperature=0, max_tokens=7) for number in range(5)]
    batch = create(strict, upload(strict, lines), metadata={"grade": "A"})
    assert (batch.status, batch.endpoint, batch.completion_window) == ("validating", CHAT, "24h")
    assert batch.expires_at is not None
    assert batch.expires_at - batch.created_at == 24 * 3600
    serve()
    ended = strict.batches.retrieve(batch.id)
    assert (ended.status, ended.error_file_id, ended.model, ended.metadata) == (
        "completed",
        None,
        deployed,
        {"grade": "A"},
    )
    assert ended.request_counts is not None
    assert ended.usage is not None
    assert (ended.request_counts.total, ended.request_counts.completed, ended.request_counts.failed) == (5, 5, 0)
    assert (ended.usage.input_tokens, ended.usage.output_tokens, ended.usage.total_tokens) == (15, 10, 25)
    assert ended.in_progress_at
    assert ended.finalizing_at
    assert ended.completed_at
    answers = content(strict, ended.output_file_id)
    assert [answer["custom_id"] for answer in answers] == [line["custom_id"] for line in lines]
    assert len({answer["id"] for answer in answers}) == 5
    for line, answer in zip(lines, answers, strict=True):
        assert answer["id"].startswith("batch_req_")
        assert answer["error"] is None
        assert answer["response"]["status_code"] == 200
        live = strict.chat.completions.create(**line["body"]).to_dict()
        assert without_ids(answer["response"]["body"]) == without_ids(live)
    file = strict.files.retrieve(str(ended.output_file_id))
    assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")


def test_lines_of_responses_are_stored_and_continue_one_another(
    openai_client: OpenAI, serve: Serve, engine: EchoEngine
) -> None:
    first = openai_client.responses.create(model=BASE, input="a")
    bodies: list[dict[str, Any]] = [
        {"model": BASE, "input": "b", "previous_response_id": first.id},
        {"model": BASE, "input": "c", "stream": True},
        {"model": BASE, "input": "c", "background": True},
        {"model": BASE, "input": "c", "text": {"verbosity": "low"}},
    ]
    lines = [
        {"custom_id": f"r{number}", "method": "POST", "url": "/v1/responses", "body": body}
        for number, body in enumerate(bodies)
    ]
    batch = create(openai_client, upload(openai_client, lines), "/v1/responses")
    serve()
    ended = openai_client.batches.retrieve(batch.id)
    (answer,) = content(openai_client, ended.output_file_id)
    assert openai_client.responses.retrieve(answer["response"]["body"]["id"]).to_dict() == answer["response"]["body"]
    assert [turn["content"] for turn in engine.asked[-1]["messages"]] == ["a", first.output_text, "b"]
    refused = content(openai_client, ended.error_file_id)
    params = {line["custom_id"]: line["response"]["body"]["error"]["param"] for line in refused}
    assert params == {"r1": "stream", "r2": "background", "r3": "text.verbosity"}


def test_line_that_the_live_route_refuses_is_in_the_error_file_with_the_same_words(
    strict: OpenAI, serve: Serve, deployed: str
) -> None:
    wrong: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": "hi"}], "temperature": 9},
        {"messages": []},
        {"messages": [{"role": "user", "content": "hi"}], "nonsense": 1},
        {"messages": [{"role": "user", "content": "hi"}], "top_logprobs": 2},
        {"messages": [{"role": "user", "content": "too long"}]},
        {"messages": [{"role": "assistant", "content": None}]},
    ]
    lines = [
        {"custom_id": f"w{number}", "method": "POST", "url": CHAT, "body": {"model": deployed, **body}}
        for number, body in enumerate(wrong)
    ]
    lines += [chat("good", model=deployed), chat("streamed", model=deployed, stream=True)]
    batch = create(strict, upload(strict, lines))
    serve()
    ended = strict.batches.retrieve(batch.id)
    assert ended.status == "completed"
    assert ended.request_counts is not None
    assert (ended.request_counts.completed, ended.request_counts.failed) == (1, 7)
    assert [answer["custom_id"] for answer in content(strict, ended.output_file_id)] == ["good"]
    errors = {answer["custom_id"]: answer for answer in content(strict, ended.error_file_id)}
    for number, body in enumerate(wrong):
        with pytest.raises(openai.BadRequestError) as live:
            strict.chat.completions.create(model=deployed, messages=[], extra_body=body)
        response = errors[f"w{number}"]["response"]
        assert (response["status_code"], errors[f"w{number}"]["error"]) == (400, None)
        assert response["body"] == json.loads(live.value.response.content)
    streamed = errors["streamed"]["response"]
    assert streamed["status_code"] == 400
    assert "not streamed" in streamed["body"]["error"]["message"]


def test_both_spellings_of_the_endpoint_and_legacy_completions_are_served(
    azure: AzureOpenAI, openai_client: OpenAI, serve: Serve, deployed: str
) -> None:
    ours = create(azure, upload(azure, [chat("a", model=deployed, url="/chat/completions")]), "/chat/completions")
    mixed = create(azure, upload(azure, [chat("a", model=deployed)]), "/chat/completions")
    line = {"custom_id": "c", "method": "POST", "url": "/v1/completions", "body": {"model": BASE, "prompt": "hi"}}
    legacy = create(openai_client, upload(openai_client, [line]), "/v1/completions")
    serve()
    for client, batch in ((azure, ours), (azure, mixed), (openai_client, legacy)):
        ended = client.batches.retrieve(batch.id)
        assert (ended.status, ended.endpoint) == ("completed", batch.endpoint)
        [answer] = content(client, ended.output_file_id)
        assert answer["response"]["status_code"] == 200
    assert answer["response"]["body"]["object"] == "text_completion"


def test_every_fault_of_a_file_is_named_at_once_with_its_line(strict: OpenAI, serve: Serve, deployed: str) -> None:
    good = chat("one", model=deployed)
    lines = [
        json.dumps(good),
        "",
        '{"custom_id": "two", "method": "POST"',
        json.dumps(good),
        json.dumps({**chat("three", model=deployed), "method": "GET", "url": "/v1/completions"}),
        json.dumps({"custom_id": 4, "method": "POST", "url": CHAT, "body": {"messages": []}}),
        json.dumps({"custom_id": "five", "method": "POST", "url": CHAT}),
        json.dumps(chat("six", model="nobody")),
        "[1]",
    ]
    file = strict.files.create(file=("requests.jsonl", "\n".join(lines).encode()), purpose="batch")
    batch = create(strict, file.id)
    serve()
    ended = strict.batches.retrieve(batch.id)
    assert (ended.status, ended.output_file_id, ended.error_file_id) == ("failed", None, None)
    assert ended.failed_at is not None
    assert ended.errors is not None
    assert ended.errors.object == "list"
    found = {(fault.line, fault.code, fault.param) for fault in ended.errors.data or []}
    assert found == {
        (3, "invalid_json_line", None),
        (4, "duplicate_custom_id", "custom_id"),
        (5, "invalid_method", "method"),
        (5, "url_mismatch", "url"),
        (6, "invalid_custom_id", "custom_id"),
        (6, "missing_model", "body.model"),
        (7, "invalid_body", "body"),
        (8, "model_not_found", "body.model"),
        (9, "invalid_json_line", None),
    }
    with pytest.raises(openai.ConflictError, match="it is failed already"):
        strict.batches.cancel(batch.id)


def test_faults_beyond_those_listed_are_counted(openai_client: OpenAI, serve: Serve) -> None:
    file = openai_client.files.create(file=("requests.jsonl", b"{\n" * (MAX_FAULTS + 23)), purpose="batch")
    batch = create(openai_client, file.id)
    serve()
    errors = openai_client.batches.retrieve(batch.id).errors
    assert errors is not None
    assert errors.data is not None
    assert len(errors.data) == MAX_FAULTS + 1
    assert errors.data[-1].code == "more_faults"
    assert "23 more" in str(errors.data[-1].message)


def test_request_that_cannot_be_a_batch_is_refused_by_name(strict: OpenAI, url: str, deployed: str) -> None:
    good = upload(strict, [chat("a", model=deployed)])
    rowed = strict.files.create(file=("rows.jsonl", rows.good()), purpose="fine-tune").id
    for endpoint in ("/v1/moderations", "/v1/images/generations", "nonsense"):
        with pytest.raises(openai.BadRequestError, match="batches are served for /v1/chat/completions"):
            create(strict, good, endpoint)
    with pytest.raises(openai.BadRequestError, match="purpose 'fine-tune'"):
        create(strict, rowed)
    with pytest.raises(openai.NotFoundError, match="There is no file"):
        create(strict, "file-" + "0" * 32)
    with pytest.raises(openai.BadRequestError, match="24h"):
        strict.batches.create(input_file_id=good, endpoint=CHAT, completion_window="1h")
    with pytest.raises(openai.BadRequestError, match=r"output_expires_after.seconds is 5"):
        create(strict, good, output_expires_after={"anchor": "created_at", "seconds": 5})
    with pytest.raises(openai.BadRequestError, match="input_blob"):
        create(strict, good, extra_body={"input_blob": "https://somewhere"})
    with pytest.raises(openai.NotFoundError, match="There is no batch"):
        strict.batches.retrieve("batch_1")
    with pytest.raises(openai.BadRequestError, match="purpose"):
        strict.files.create(file=("a.jsonl", b"{}"), purpose="batch_output")


def test_batch_is_cancelled_and_keeps_what_is_answered(
    strict: OpenAI, context: Context, serving: Serving, grammars: GrammarChecker, engine: EchoEngine, deployed: str
) -> None:
    batch = create(strict, upload(strict, [chat(f"q{number}", model=deployed) for number in range(40)]))

    def some_are_answered() -> bool:
        if len(engine.asked) >= 10:
            engine.holds.set()
        return engine.holds.is_set() and len(engine.asked) >= 10

    batch_runs.serve(context, serving, grammars, some_are_answered)
    cancelling = strict.batches.cancel(batch.id)
    assert cancelling.status == "cancelling"
    assert strict.batches.cancel(batch.id).status == "cancelling"
    engine.holds.clear()
    batch_runs.serve(context, serving, grammars)
    ended = strict.batches.retrieve(batch.id)
    assert ended.status == "cancelled"
    assert ended.cancelling_at
    assert ended.cancelled_at
    done, undone = content(strict, ended.output_file_id), content(strict, ended.error_file_id)
    assert 5 <= len(done) < 40
    assert {line["error"]["code"] for line in undone} == {"batch_cancelled"}
    assert {line["response"] is None for line in undone} == {True}
    assert sorted(line["custom_id"] for line in done + undone) == sorted(f"q{number}" for number in range(40))
    with pytest.raises(openai.ConflictError):
        strict.batches.cancel(batch.id)


def test_batches_are_listed_by_page_newest_first(strict: OpenAI) -> None:
    file_id = upload(strict, [chat("a")])
    made = [create(strict, file_id).id for _ in range(5)]
    first = strict.batches.list(limit=2)
    assert [batch.id for batch in first.data] == made[:-3:-1]
    assert first.has_more
    assert [batch.id for batch in strict.batches.list(limit=2)] == made[::-1]
    assert [batch.id for batch in strict.batches.list(after=made[1]).data] == made[:1]


def test_file_deleted_after_the_batch_began_is_no_loss_and_before_it_a_named_error(
    openai_client: OpenAI, context: Context, serving: Serving, grammars: GrammarChecker, engine: EchoEngine
) -> None:
    begun_file = upload(openai_client, [chat(f"q{number}") for number in range(20)])
    begun = create(openai_client, begun_file)
    batch_runs.serve(context, serving, grammars, lambda: len(engine.asked) > 3)
    openai_client.files.delete(begun_file)
    waiting_file = upload(openai_client, [chat("a")])
    waiting = create(openai_client, waiting_file)
    openai_client.files.delete(waiting_file)
    batch_runs.serve(context, serving, grammars)
    assert len(content(openai_client, openai_client.batches.retrieve(begun.id).output_file_id)) == 20
    failed = openai_client.batches.retrieve(waiting.id)
    assert failed.errors is not None
    assert [fault.code for fault in failed.errors.data or []] == ["file_not_found"]


def test_output_files_expire_when_the_batch_said_so(openai_client: OpenAI, serve: Serve) -> None:
    after = {"anchor": "created_at", "seconds": 3600}
    batch = create(openai_client, upload(openai_client, [chat("a")]), output_expires_after=after)
    serve()
    file = openai_client.files.retrieve(str(openai_client.batches.retrieve(batch.id).output_file_id))
    assert file.expires_at is not None
    assert file.expires_at - file.created_at == 3600


def test_batch_of_another_resource_is_what_never_was(openai_client: OpenAI, url: str, context: Context) -> None:
    with context.database.writing() as tx:
        resources.insert_resource(tx, Resource("other", "s", "g", "other"), context.now())
    key = keys.create(context, "other", "theirs", next(iter(keys.authenticate(context, [KEY]).roles)))
    file_id = upload(openai_client, [chat("a")])
    batch = create(openai_client, file_id)
    with OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as other:
        with pytest.raises(openai.NotFoundError, match="There is no"):
            other.batches.retrieve(batch.id)
        with pytest.raises(openai.NotFoundError, match="There is no"):
            other.batches.cancel(batch.id)
        with pytest.raises(openai.NotFoundError, match="There is no"):
            create(other, file_id)
        assert list(other.batches.list()) == []


def test_creating_and_cancelling_leave_audit_lines(openai_client: OpenAI, context: Context) -> None:
    batch = create(openai_client, upload(openai_client, [chat("a")]))
    openai_client.batches.cancel(batch.id)
    lines = [(entry.action, entry.id, entry.status) for entry in audit.read_entries(context.audit_file)]
    assert lines[-2:] == [("batches/write", batch.id, 200)] * 2


def test_batch_is_not_counted_in_a_rate_limit(
    openai_client: OpenAI, context: Context, serving: Serving, grammars: GrammarChecker
) -> None:
    """With a limit that one line exceeds, all are answered, and the whole limit is left for live callers."""
    limits = RateLimits(model_tokens=1)
    batch = create(openai_client, upload(openai_client, [chat(f"q{number}") for number in range(5)]))

    def calls() -> BatchLines:
        limited = Services(context, serving, lambda: None, rate_limits=limits, grammars=grammars, calls=engine_calls())
        return BatchLines(limited)

    batch_runs.work(context, calls)
    assert len(content(openai_client, openai_client.batches.retrieve(batch.id).output_file_id)) == 5
    limit = limits.limit_of(None)
    assert limit is not None
    assert limits.remaining(f"default/{BASE}", limit, context.now()).tokens == 1


def test_live_call_that_finds_no_room_ends_a_line_which_is_answered_later(
    openai_client: OpenAI, context: Context, serving: Serving, grammars: GrammarChecker, engine: EchoEngine
) -> None:
    """The line has the whole engine; the live call gets it, and the line once that is answered."""
    engine.capacity = Capacity("echo", slots=2, context_tokens=200, window_tokens=200)
    engine.holds.set()
    batch = create(openai_client, upload(openai_client, [chat("long", "hi", max_tokens=190)]))
    shared = engine_calls()
    live: list[int] = []

    def calls() -> BatchLines:
        services = Services(context, serving, lambda: None, grammars=grammars, calls=shared)
        asyncio.get_running_loop().create_task(ask(services))
        return BatchLines(services)

    async def ask(services: Services) -> None:
        while not engine.asked:
            await asyncio.sleep(0.01)
        target = await asyncio.to_thread(model_routing.find, context, "default", BASE, True)
        route = await model_routing.route(serving, "default", target)
        request = ChatBody.model_validate(chat("live", "live", max_tokens=150)["body"]).chat_request()
        engine.says = ["for the live call"]
        answering = asyncio.ensure_future(services.generation.complete(route, request))
        while len(engine.asked) < 2:
            await asyncio.sleep(0.01)
        engine.holds.clear()
        live.append((await answering).usage.total_tokens)

    batch_runs.work(context, calls)
    assert live == [5]
    ended = openai_client.batches.retrieve(batch.id)
    assert ended.status == "completed"
    assert [answer["custom_id"] for answer in content(openai_client, ended.output_file_id)] == ["long"]
    assert [asked["max_tokens"] for asked in engine.asked] == [190, 150, 190]
