"""Odd schemas, one after another, while another caller asks for a token at a time."""

import asyncio
import json
import time
from collections import Counter
from typing import Any

import jsonschema_rs

import odd_schemas as odd_schemas_table
from bench.load import target, wire
from bench.load.chats import QUICK
from bench.load.figures import Figures
from bench.load.target import Service
from odd_schemas import OddSchema

PATIENCE_S = 120.0


async def odd_schemas(service: Service, n: int) -> Figures:
    """The first `n` of the table that the tests hold within and just beyond the bounds."""
    waits: list[float] = []
    outcomes: Counter[str] = Counter()
    bystander = asyncio.ensure_future(_bystander(service, waits))
    try:
        for odd in odd_schemas_table.ODD[:n]:
            outcomes[await _asked(service, odd)] += 1
    finally:
        bystander.cancel()
    return Figures(outcomes, {"longest wait of a bystander, s": max(waits, default=0.0)})


async def _asked(service: Service, odd: OddSchema) -> str:
    """Within the bounds or beyond them, and what came of it."""
    side = "beyond" if odd.refused else "within"
    return f"{side}: {await _outcome(service, dict(odd.schema))}"


async def _outcome(service: Service, schema: dict[str, Any]) -> str:
    body = {
        "messages": [{"role": "user", "content": "Answer in JSON."}],
        "max_tokens": 40,
        "response_format": odd_schemas_table.response_format(schema),
    }
    asked = wire.ask(service.port, "POST", target.chat_path(), service.key, body)
    try:
        answer = await asyncio.wait_for(asked, PATIENCE_S)
    except TimeoutError:
        return "no answer"
    if answer.status != 200:
        return f"{answer.status} {answer.code}"
    choice = answer.json()["choices"][0]
    if choice["finish_reason"] == "length":
        return "200, cut off"
    try:
        fits = jsonschema_rs.is_valid(schema, json.loads(choice["message"]["content"]))
    except ValueError:
        fits = False
    return "200, fits" if fits else "200, DOES NOT FIT"


async def _bystander(service: Service, waits_s: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await wire.ask(service.port, "POST", target.chat_path(), service.key, QUICK, wire.HOST)
        waits_s.append(time.perf_counter() - began)
        await asyncio.sleep(0.1)
