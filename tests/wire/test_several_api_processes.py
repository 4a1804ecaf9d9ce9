"""Two API processes on one database: a response in the background has one owner, whichever of them is asked."""

import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from openai import OpenAI

from fakes import BASE, KEY, EchoEngine, engine_calls
from luthier.api import server
from luthier.api.http import connection_limits, listening
from luthier.api.http.connection_limits import ConnectionGate
from luthier.api.services import Services
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.store.queries.leasing import leases
from luthier.store.queries.leasing.leases import Lease
from waiting import until

OPEN = {"queued", "in_progress"}


@dataclass
class Api:
    """One API process, as far as the database and its callers can tell."""

    url: str
    lease: Lease

    @property
    def client(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0)

    def status(self, id: str) -> str | None:
        return self.client.responses.retrieve(id).status

    def follow(self, id: str, after: int) -> str:
        asked: dict[str, Any] = {"stream": "true", "starting_after": after}
        address = f"{self.url}/v1/responses/{id}"
        return httpx2.get(address, params=asked, headers={"api-key": KEY}, timeout=30).text


@pytest.fixture
def apis(context: Context, serving: Serving, grammars: GrammarChecker) -> Iterator[list[Api]]:
    running: list[tuple[uvicorn.Server, threading.Thread]] = []
    made = []
    for name in ("process/a", "process/b"):
        with context.database.writing() as tx:
            lease = leases.take(tx, name, f"elsewhere/0/1@1/{name}", timedelta(seconds=60))
        assert lease is not None
        services = Services(context, serving, lambda: None, grammars=grammars, calls=engine_calls(), process=name)
        config = listening.config(
            server.build(services, lifespan), ConnectionGate(connection_limits.Limits()), port=0, lifespan="on"
        )
        one = uvicorn.Server(config)
        thread = threading.Thread(target=one.run, daemon=True)
        thread.start()
        running.append((one, thread))
        while not one.started:
            time.sleep(0.005)
        made.append(Api(f"http://127.0.0.1:{one.servers[0].sockets[0].getsockname()[1]}", lease))
    yield made
    for one, thread in running:
        one.should_exit = True
        thread.join()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await server.resume(app)
    yield
    await server.end(app)


def begin(api: Api, **asked: Any) -> str:
    id: str = api.client.responses.create(model=BASE, input="a", background=True, **asked).id
    return id


def test_response_is_generated_once_and_its_end_is_told_by_the_other_process(
    apis: list[Api], engine: EchoEngine
) -> None:
    engine.holds.set()
    events: Any = apis[0].client.responses.create(model=BASE, input="a", background=True, stream=True)
    first = next(events)
    told: list[str] = []
    thread = threading.Thread(target=lambda: told.append(apis[1].follow(first.response.id, 1)))
    thread.start()
    until(lambda: len(engine.asked) == 1, 10)
    engine.holds.clear()
    *_, last = events
    thread.join(20)
    kind, data = told[0].strip().splitlines()
    shown = json.loads(data.removeprefix("data: "))
    assert (kind, shown["sequence_number"]) == ("event: response.completed", 2)
    assert shown["response"]["output"][0]["content"][0]["text"] == last.response.output_text
    assert len(engine.asked) == 1


def test_response_that_is_cancelled_in_another_process_ends_in_its_own(apis: list[Api], engine: EchoEngine) -> None:
    engine.holds.set()
    id = begin(apis[0])
    until(lambda: len(engine.busy) == 1, 10)
    assert apis[1].client.responses.cancel(id).status == "cancelled"
    until(lambda: not engine.busy, 10)
    engine.holds.clear()
    assert apis[0].status(id) == "cancelled"


def test_response_of_a_process_that_has_ended_is_taken_over_and_stored_once(
    apis: list[Api], context: Context, engine: EchoEngine
) -> None:
    engine.holds.set()
    id = begin(apis[0])
    until(lambda: len(engine.asked) == 1, 10)
    with context.database.writing() as tx:
        leases.release(tx, apis[0].lease)  # as if its time were over: it cannot renew, and does not know
    until(lambda: len(engine.asked) == 2, 10)
    until(lambda: len(engine.busy) == 1, 10)  # and the first process has noticed
    assert apis[1].status(id) in OPEN
    engine.holds.clear()
    until(lambda: apis[1].status(id) == "completed", 10)
    assert len(engine.asked) == 2
