"""An engine host in the test's own process: what would go over HTTP goes through JSON and nothing else."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from luthier.core.inference import host_values
from luthier.core.inference.engine_hosts import EngineHost, Operation
from luthier.core.states import EngineName
from luthier.engine_host import answer_lines
from luthier.engine_host.operations import HostOperations
from luthier.service.context import Context
from luthier.service.models.hosting.host_directory import HostDirectory
from luthier.service.models.hosting.hosted_serving import HostedServing
from luthier.service.models.serving import Serving
from luthier.service.scheduling.engine_calls import EngineCalls
from luthier.service.scheduling.hosted_calls import HostedCalls


@dataclass
class InProcessClient:
    """Implements core.inference.engine_hosts.HostClient by the operations of a host."""

    operations: HostOperations

    async def stream(self, url: str, operation: Operation, body: Mapping[str, object]) -> AsyncGenerator[object]:
        values = self.operations.answer(operation, json.loads(json.dumps(body)))
        async with aclosing(answer_lines.lines(values)) as lines:
            async for line in lines:
                received = json.loads(line)
                if "error" in received:
                    raise host_values.read_error(received["error"])
                if "value" in received:
                    yield received["value"]

    async def ask(self, url: str, operation: Operation, body: Mapping[str, object]) -> object:
        async with aclosing(self.stream(url, operation, body)) as values:
            async for value in values:
                return value
        return None

    def ask_now(
        self, url: str, operation: Operation, body: Mapping[str, object], timeout_s: float | None = None
    ) -> object:
        return asyncio.run(self.ask(url, operation, body))

    async def close(self) -> None:
        await self.operations.calls.close()


def hosted(context: Context, serving: Serving, calls: EngineCalls) -> tuple[HostedServing, HostedCalls]:
    """What a service has whose models are on a host, which has this serving and these calls."""
    client = InProcessClient(HostOperations(context, serving, calls))
    only = EngineHost("http://host", "process/host", 8)
    directory = HostDirectory(context.database, lambda: 0.0, (only,), 0.0)
    return HostedServing(directory, client, EngineName.AUTO), HostedCalls(client, directory.note_gone)
