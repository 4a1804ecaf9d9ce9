"""The application of an engine host: a caller that leaves ends its operation, and what is no call is refused."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Any, cast

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette

from luthier.core.inference.engine_hosts import PATH, Operation
from luthier.engine_host import host_app
from luthier.engine_host.operations import HostOperations

KEY = {"Authorization": "Bearer k"}


class Endless:
    """Operations whose answers do not end by themselves."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    async def answer(self, operation: Operation, body: Mapping[str, Any]) -> AsyncGenerator[object]:
        try:
            while True:
                yield body
                await asyncio.sleep(0.01)
        finally:
            self.ended.set()


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    yield


@pytest.fixture
def operations() -> Endless:
    return Endless()


@pytest.fixture
def url(operations: Endless) -> Iterator[str]:
    app = host_app.build(cast(HostOperations, operations), "k", lambda: b"one 1\n", lifespan)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = server.force_exit = True
    thread.join()


def test_caller_that_leaves_ends_the_operation(url: str, operations: Endless) -> None:
    with httpx2.stream("POST", f"{url}{PATH}generate", json={"a": 1}, headers=KEY) as response:
        assert next(response.iter_lines()) == '{"value":{"a":1}}'
        assert not operations.ended.is_set()
    assert operations.ended.wait(10)


def test_what_is_no_call_is_refused_and_metrics_need_the_key(url: str) -> None:
    assert httpx2.post(f"{url}{PATH}generate", content=b"{", headers=KEY).status_code == 400
    assert httpx2.post(f"{url}{PATH}dance", json={}, headers=KEY).status_code == 404
    assert httpx2.get(f"{url}/metrics").status_code == 401
    assert httpx2.get(f"{url}/metrics", headers=KEY).text == "one 1\n"
