"""Odd schemas against the embedded model's own engine: no wrong 200, no wait for others, and a bound on memory."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs
import psutil
import pytest

from engine_kinds import KINDS, AnyEngine, open_engine
from fakes import BASE, KEY, agreeing_parity, engine_calls
from luthier.api import server
from luthier.api.services import Services
from luthier.core.engine_ports import ServedModel
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from odd_schemas import ODD, OddSchema, response_format

pytestmark = pytest.mark.model

QUESTION = [{"role": "user", "content": "Hi"}]
MAX_TOKENS = 4
MAX_GROWTH_BYTES = 400 * 1024 * 1024
"""Of the engine over all of them; its cache of 1,024 tokens alone is a tenth of that."""


UNSTORABLE = {"half a character": "invalid_value"}
"""Refused before anybody looks at it as a schema: no body may hold it."""


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnyEngine]:
    made = open_engine(request.param, tmp_path_factory.mktemp("engines"), 1024, 3)
    yield made
    made.close()


@pytest.fixture
def client(
    switch: tuple[Any, str], context: Context, engine: AnyEngine, base_folder: Path, grammars: GrammarChecker
) -> Iterator[httpx2.Client]:
    there = replace(context, models_folder=base_folder.parent)
    engine.ensure(ServedModel(BASE, BASE, base_folder, None))
    made, address = switch
    serving = Serving(there, engine, agreeing_parity)
    made.app = server.build(Services(there, serving, lambda: None, grammars=grammars, calls=engine_calls()), None)
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    with httpx2.Client(base_url=f"{address}/v1", headers=headers, timeout=120) as client:
        yield client


def ask(client: httpx2.Client, odd: OddSchema) -> tuple[str | None, str, str]:
    """The code of the refusal, or None with the answer and why it ended."""
    form = response_format(odd.schema)
    asked = {"model": BASE, "messages": QUESTION, "response_format": form, "max_tokens": MAX_TOKENS, "seed": 1}
    answer = client.post("/chat/completions", content=json.dumps(asked))  # the SDK sends no half characters
    if answer.status_code != 200:
        return f"{answer.json()['error']['code']}" if answer.status_code == 400 else answer.text, "", ""
    (choice,) = answer.json()["choices"]
    return None, choice["message"]["content"] or "", choice["finish_reason"]


def is_right(odd: OddSchema, text: str, reason: str) -> bool:
    if reason == "stop":
        return jsonschema_rs.is_valid(odd.schema, json.loads(text))
    return reason == "length" and text.lstrip()[:1] in ("", *'{["-0123456789tfn')


def test_odd_schemas_are_answered_rightly_or_refused_and_hold_up_nobody(client: httpx2.Client) -> None:
    process = next(
        child
        for child in psutil.Process().children(recursive=True)
        if any(word.startswith("luthier.engines.") for word in child.cmdline())
    )
    before_bytes = process.memory_info().rss
    over = threading.Event()
    waits_s: list[float] = []
    chats_s: list[float] = []

    def other_caller() -> None:
        while not over.is_set():
            start = time.perf_counter()
            client.get("/models").raise_for_status()
            waits_s.append(time.perf_counter() - start)
            start = time.perf_counter()
            client.post(
                "/chat/completions", json={"model": BASE, "messages": QUESTION, "max_tokens": 1}
            ).raise_for_status()
            chats_s.append(time.perf_counter() - start)
            over.wait(0.1)

    other = threading.Thread(target=other_caller)
    other.start()
    try:
        with ThreadPoolExecutor(2) as callers:
            answers = list(callers.map(lambda odd: ask(client, odd), ODD))
    finally:
        over.set()
        other.join()
    wrong = [
        (odd.name, code, text)
        for odd, (code, text, reason) in zip(ODD, answers, strict=True)
        if code != UNSTORABLE.get(odd.name, odd.refused) or (code is None and not is_right(odd, text, reason))
    ]
    assert not wrong
    grown_bytes = process.memory_info().rss - before_bytes
    print(f"engine grew by {grown_bytes >> 20} MiB, others {max(waits_s):.2f} s, chats {max(chats_s):.2f} s at most")
    assert grown_bytes < MAX_GROWTH_BYTES
    assert sorted(waits_s)[len(waits_s) * 9 // 10] < 1
