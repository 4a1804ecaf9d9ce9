"""What is under way for callers whose right to it ends: it ends too, and leaves nothing behind."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

import peers
import received
from asgi_switch import Switch
from fakes import BASE, KEY, EchoEngine, engine_calls
from luthier.api import server
from luthier.api.arm import arm_names
from luthier.api.auth.revocation import Rights
from luthier.api.http.thread_pools import Workers
from luthier.api.services import Services
from luthier.core.engine_ports import Capacity
from luthier.core.errors import Unauthenticated
from luthier.core.models import Principal, ResourceName
from luthier.core.ports import Blob, BlobStore, Claims
from luthier.core.roles import Role
from luthier.core.states import FilePurpose
from luthier.oidc.bearer_tokens import OidcVerifier
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.files import files, uploads
from luthier.service.models import deployments, models
from luthier.service.models.serving import Serving
from luthier.service.scheduling.engine_calls import EngineCalls
from luthier.service.tenants import keys, resources
from luthier.service.tenants.keys import DEFAULT_RESOURCE
from luthier.store.queries import resources as resource_rows
from sharing import train
from waiting import until

QUICK, NEVER = 0.05, 3600.0
"""How often a test's service looks: what ends by a look, and what must end without one."""
PREVIEW = {"aoai-copy-ft-checkpoints": "preview"}
UPLOAD = {"bytes": 3, "filename": "a", "mime_type": "text/jsonl", "purpose": "fine-tune"}
HELLO = [{"role": "user", "content": "hello"}]
FORM = {"content_type": "multipart/form-data; boundary=b"}
BEGINNING = b'--b\r\ncontent-disposition: form-data; name="{}"; filename="a.jsonl"\r\n\r\n{"a": 1}\n'
END = b'\r\n--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--b--\r\n'
Serve = Callable[..., str]


@pytest.fixture
def calls() -> EngineCalls:
    return engine_calls()


@pytest.fixture
def serve(
    switch: tuple[Switch, str], context: Context, serving: Serving, engine: EchoEngine, calls: EngineCalls
) -> Iterator[Serve]:
    """A service that looks so often, with an engine of one slot and a context of the test's own."""

    def build(poll_s: float, of: Context = context) -> str:
        engine.capacity = Capacity("engine", slots=1, context_tokens=4000, window_tokens=4000)
        services = Services(of, serving, lambda: None, rights=Rights(poll_s), calls=calls)
        switch[0].app = server.build(services, None)
        serving.address(models.get(context, "default", BASE))
        return switch[1]

    yield build
    engine.holds.clear()


@pytest.fixture
def key(context: Context, caller: Principal) -> str:
    return keys.create(context, caller.resource.id, "watcher", Role.OWNER)


def revoke(context: Context) -> None:
    keys.revoke(context, DEFAULT_RESOURCE.id, "watcher")


def chat(url: str, key: str, content: str = "mine", **more: Any) -> httpx2.Response:
    body = {"model": BASE, "messages": [{"role": "user", "content": content}], **more}
    return httpx2.post(f"{url}/v1/chat/completions", headers={"api-key": key}, json=body, timeout=30)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as made:
        yield made


@pytest.mark.parametrize("stream", [False, True])
def test_chat_under_way_ends_with_the_error_of_a_new_request_and_frees_the_engine(
    serve: Serve, context: Context, key: str, engine: EchoEngine, pool: ThreadPoolExecutor, stream: bool
) -> None:
    url = serve(QUICK)
    engine.holds.set()
    asking = pool.submit(chat, url, key, stream=stream)
    until(lambda: bool(engine.busy))
    revoke(context)
    answer = asking.result(30)
    assert (answer.status_code, answer.json()) == (401, chat(url, key).json())
    until(lambda: not engine.busy)


@pytest.mark.parametrize("poll_s", [QUICK, NEVER])
def test_queued_chat_of_a_lost_right_never_reaches_the_engine(
    serve: Serve,
    context: Context,
    key: str,
    engine: EchoEngine,
    calls: EngineCalls,
    pool: ThreadPoolExecutor,
    poll_s: float,
) -> None:
    url = serve(poll_s)
    engine.holds.set()
    first = pool.submit(chat, url, KEY, "first")
    until(lambda: bool(engine.busy))
    queued = pool.submit(chat, url, key, "second")
    until(lambda: calls.n_waiting() == 1)
    revoke(context)
    if poll_s == NEVER:  # nobody looks: it is judged when it has its place
        engine.holds.clear()
    assert queued.result(30).status_code == 401
    engine.holds.clear()
    assert first.result(30).status_code == 200
    assert [body["messages"][-1]["content"] for body in engine.asked] == ["first"]


@pytest.mark.parametrize("prefix", ["/v1", "/openai/v1"])
def test_stream_under_way_ends_with_the_dialects_error(
    serve: Serve, context: Context, key: str, engine: EchoEngine, prefix: str, supervisor: Supervisor
) -> None:
    url = serve(QUICK)
    deployment = deployments.DeploymentRequest("clippy", BASE, None, "Standard", 1000)
    deployments.put(context, DEFAULT_RESOURCE.id, deployment)
    supervisor.tick_deployments()
    engine.capacity = None
    engine.says, engine.piece = ["x" * 2**25], 2**15  # far more than the buffers on the way hold
    body = {"model": "clippy", "messages": HELLO, "stream": True}
    with httpx2.stream(
        "POST", f"{url}{prefix}/chat/completions", headers={"api-key": key}, json=body, timeout=30
    ) as answer:
        lines = (line.removeprefix("data: ") for line in answer.iter_lines() if line)
        assert "choices" in json.loads(next(lines))
        revoke(context)
        rest = list(lines)
    assert rest[-1] == "[DONE]"
    assert "Access denied" in json.loads(rest[-2])["error"]["message"]
    assert sum(map(len, rest)) < 2**25, "it was not answered whole"


@pytest.mark.parametrize("asked", [None, "bytes=5-"])
def test_download_under_way_breaks_off(
    serve: Serve, context: Context, key: str, pool: ThreadPoolExecutor, asked: str | None
) -> None:
    url = serve(NEVER)
    form = {"files": {"file": ("a.jsonl", b"x" * 2**25)}, "data": {"purpose": "fine-tune"}}
    file = httpx2.post(f"{url}/v1/files", headers={"api-key": KEY}, timeout=60, **form).json()
    headers = {"api-key": key} | ({} if asked is None else {"range": asked})
    got = 0
    with httpx2.stream("GET", f"{url}/v1/files/{file['id']}/content", headers=headers, timeout=30) as answer:
        chunks = answer.iter_raw(2**16)
        got += len(next(chunks))
        revoke(context)
        with pytest.raises(httpx2.RemoteProtocolError):
            got += sum(map(len, chunks))
    assert got < 2**25


@pytest.mark.parametrize("poll_s", [QUICK, NEVER])
@pytest.mark.parametrize("is_part", [False, True])
def test_upload_under_way_ends_and_leaves_nothing(
    serve: Serve, context: Context, key: str, caller: Principal, poll_s: float, is_part: bool
) -> None:
    url = serve(poll_s)
    path, field = "/v1/files", b"file"
    if is_part:
        path, field = f"/v1/uploads/{begun(context)}/parts", b"data"
    beginning = BEGINNING.replace(b"{}", field)
    length = len(beginning) + len(END)
    head = peers.head("POST", path, key, **FORM, content_length=length, expect="100-continue")
    with peers.asking(url, head) as peer:
        assert peer.recv(100).startswith(b"HTTP/1.1 100"), "the key has been looked at"
        peer.sendall(beginning)
        revoke(context)
        if poll_s == NEVER:  # otherwise the rest never comes, and is not waited for
            peer.sendall(END)
        status, _, body = peers.answer(peer)
    assert (status, b"Access denied" in body) == (401, True)
    assert peers.stored(context.data_folder) == []
    assert files.list_page(context, caller.resource.id, None, None, 10, False) == ([], False)
    assert resources.count_contents(context, caller.resource.id).get("uploads", 0) == int(is_part)


@pytest.mark.parametrize("end", ["regenerated", "demoted", "resource deleted", "token expired"])
def test_right_ends_however_it_is_taken_away(
    serve: Serve, context: Context, engine: EchoEngine, pool: ThreadPoolExecutor, caller: Principal, end: str
) -> None:
    token = Expiring()
    url = serve(QUICK, replace(context, tokens=token))
    resource, [other_key, _] = resources.create(context, "other", None, None)
    mine = keys.create(context, caller.resource.id, "watcher", Role.OWNER)
    presented = {"resource deleted": other_key, "token expired": "a.b.c"}.get(end, mine)
    engine.holds.set()
    asking = pool.submit(chat, url, presented)
    until(lambda: bool(engine.busy))
    match end:
        case "regenerated":
            keys.regenerate(context, caller.resource.id, "watcher")
        case "demoted":
            with context.database.writing() as tx:
                resource_rows.delete_key(tx, caller.resource.id, "watcher")
                role = Role.USAGES_READER
                resource_rows.insert_key(tx, keys.hash_key(mine), caller.resource.id, "watcher", context.now(), role)
        case "resource deleted":
            resources.delete(context, resource.account, force=True)
        case "token expired":
            token.has_expired = True
    assert asking.result(30).status_code == (403 if end == "demoted" else 401)


class Expiring(OidcVerifier):
    """What checks tokens, of which each is good until all have expired."""

    def __init__(self) -> None:
        self.has_expired = False

    def verify(self, token: str) -> Claims:
        if self.has_expired:
            raise Unauthenticated("invalid_token", "Access denied: the token has expired.")
        return Claims("somebody", DEFAULT_RESOURCE.account, frozenset({Role.OWNER}), datetime(2100, 1, 1, tzinfo=UTC))


class Interrupted:
    """A blob store that has something happen while it copies: the end of a right, or a long wait."""

    def __init__(self, store: BlobStore, happens: Callable[[], object]) -> None:
        self._store = store
        self._happens = happens

    def put(self, key: str, chunks: Iterable[bytes]) -> Blob:
        self._happens()
        return self._store.put(key, chunks)

    def join(self, key: str, parts: Sequence[str], on_chunk: Callable[[bytes], object]) -> Blob:
        self._happens()
        return self._store.join(key, parts, on_chunk)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def begun(context: Context) -> str:
    """The id of a pending upload of three bytes."""
    request = uploads.UploadRequest("a", FilePurpose.FINE_TUNE, 3, "text/jsonl", None)
    return uploads.create(context, DEFAULT_RESOURCE.id, request).id


def completing(context: Context) -> tuple[str, dict[str, Any]]:
    """What completes an upload: path and body."""
    upload_id = begun(context)
    part = received.part(context, DEFAULT_RESOURCE.id, upload_id, [b"abc"])
    return f"/v1/uploads/{upload_id}/complete", {"part_ids": [part.id]}


def copying(url: str, supervisor: Supervisor) -> tuple[str, dict[str, Any]]:
    job_id, model = train(url, supervisor)
    name = arm_names.id_of(ResourceName("11111111-1111-1111-1111-111111111111", "lab", "violas"))
    path = f"/openai/v1/fine_tuning/jobs/{job_id}/checkpoints/{model}/copy"
    return path, {"destinationResourceId": name, "region": "here"}


def post(url: str, key: str, asked: tuple[str, dict[str, Any]]) -> httpx2.Response:
    return httpx2.post(url + asked[0], headers={"api-key": key, **PREVIEW}, json=asked[1], timeout=60)


@pytest.mark.parametrize("what", ["complete", "copy"])
def test_what_is_joined_or_copied_for_a_lost_right_leaves_nothing(
    serve: Serve, context: Context, key: str, supervisor: Supervisor, what: str
) -> None:
    asked = completing(context) if what == "complete" else copying(serve(NEVER), supervisor)
    before = peers.stored(context.data_folder)
    taken = iter([revoke])
    blobs = Interrupted(context.blobs, lambda: next(taken, lambda _: None)(context))
    url = serve(NEVER, replace(context, blobs=blobs))
    assert post(url, key, asked).status_code == 401
    assert peers.stored(context.data_folder) == before
    assert post(url, KEY, asked).status_code == 200, "what was there is there still"


@pytest.mark.parametrize("what", ["complete", "copy"])
def test_long_copies_leave_those_that_write_their_threads(
    serve: Serve, context: Context, supervisor: Supervisor, pool: ThreadPoolExecutor, what: str
) -> None:
    many = Workers.WRITES.threads + Workers.BYTES.threads
    if what == "complete":
        asked = [completing(context) for _ in range(many)]
    else:
        asked = [copying(serve(NEVER), supervisor)] * many
    goes_on = threading.Event()
    url = serve(NEVER, replace(context, blobs=Interrupted(context.blobs, lambda: goes_on.wait(60))))
    copies = [pool.submit(post, url, KEY, one) for one in asked]
    try:
        for _ in range(3):
            made = post(url, KEY, ("/v1/uploads", UPLOAD))
            assert made.status_code == 200
        assert not any(copy.done() for copy in copies)
    finally:
        goes_on.set()
    assert {copy.result(60).status_code for copy in copies} == {200}
