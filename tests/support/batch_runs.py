"""Batches in tests: their files, and a runner that works on them until they have ended."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable
from typing import Any

from openai import OpenAI

from fakes import BASE, engine_calls
from luthier.api.routes.inference.batch_lines import BatchLines
from luthier.api.services import Services
from luthier.core.states import TERMINAL_BATCH_STATUSES
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.service.batches.line_calls import LineCalls
from luthier.service.batches.runner import BatchRunner
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.store.queries.inference import batches

CHAT = "/v1/chat/completions"
PATIENCE_S = 30.0


def chat(custom_id: str, text: str = "hi", model: str = BASE, url: str = CHAT, **fields: object) -> dict[str, Any]:
    """A line of an input file."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def jsonl(lines: Iterable[object]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def upload(client: OpenAI, lines: Iterable[object]) -> str:
    return client.files.create(file=("requests.jsonl", jsonl(lines)), purpose="batch").id


def content(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of an output or error file; none for no file."""
    if file_id is None:
        return []
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def work(
    context: Context,
    calls: Callable[[], LineCalls],
    until: Callable[[], bool] | None = None,
    lines_at_once: int = 4,
) -> None:
    """Runs a runner until no batch is open, or until something else is the case, and stops it."""

    def all_ended() -> bool:
        with context.database.reading() as tx:
            return not [one for one in batches.list_open(tx) if one.status not in TERMINAL_BATCH_STATUSES]

    async def run() -> None:
        runner = BatchRunner(context, lines_at_once, tick_s=0.02, idle_tick_s=0.02, first_backoff_s=0.01)
        runner.start(calls())
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not (until or all_ended)():
                    await asyncio.sleep(0.01)
        finally:
            await runner.stop()

    asyncio.run(run())


def serve(
    context: Context, serving: Serving, grammars: GrammarChecker, until: Callable[[], bool] | None = None
) -> None:
    """As `work`, with the lines answered by the service's own routes."""

    def calls() -> LineCalls:
        services = Services(context, serving, lambda: None, grammars=grammars, calls=engine_calls())
        return BatchLines(services)

    with contextlib.suppress(KeyboardInterrupt):
        work(context, calls, until)
