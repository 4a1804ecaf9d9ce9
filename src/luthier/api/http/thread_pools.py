"""Worker threads by what they wait for, so that many calls of one kind leave the threads of the others free.

Used wherever a coroutine must call something that blocks; docs/event-loop.md says who runs where.
"""

from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

T = TypeVar("T")


class Workers(Enum):
    """A kind of work, and how many threads do it at once. All other work shares anyio's own 40 threads."""

    KEYS = ("authentication", 4)
    TOKENS = ("authentication by a token, whose issuer may be slow", 8)
    WRITES = ("calls that change something: the database takes one writer at a time, so more only wait", 4)
    BYTES = ("calls that copy gigabytes: parts that are joined, checkpoints that are copied", 4)
    RECEIVERS = ("calls that wait for the receiver of a webhook, or for its name: 10 s at most", 8)
    STREAMS = ("reads for open event streams", 4)
    HEALTH = ("readiness of this service", 1)

    @property
    def threads(self) -> int:
        return self.value[1]


_limiters: RunVar[dict[Workers, CapacityLimiter]] = RunVar("luthier_workers")


async def run(workers: Workers, call: Callable[[], T]) -> T:
    """Runs `call` in a thread of that kind, once one is free; returns or raises what it does.

    Cancellation prevents a call that has not begun; one that has begun is awaited, except for HEALTH.
    """
    return await to_thread.run_sync(call, limiter=_limiter(workers), abandon_on_cancel=workers is Workers.HEALTH)


def _limiter(workers: Workers) -> CapacityLimiter:
    """The limiter of that kind for the running event loop, made at first use: another loop's cannot be awaited."""
    limiters = _limiters.get({})
    if not limiters:
        limiters = {kind: CapacityLimiter(kind.threads) for kind in Workers}
        _limiters.set(limiters)
    return limiters[workers]
