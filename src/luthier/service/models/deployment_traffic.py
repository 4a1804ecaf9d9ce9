"""Traffic of deployments: calls, tokens and times to the first token since the process started, in memory."""

import statistics
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from luthier.core.errors import LuthierError
from luthier.core.inference.generation import Usage
from luthier.core.models import Deployment

MOST_DEPLOYMENTS = 10_000
"""Beyond them the tally of the deployment that was called longest ago is forgotten."""
MOST_TIMES = 128
"""So many of the latest times to the first token are kept of each deployment: their median is shown."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one deployment has answered since the process started. `first_token_s` is the median of the latest calls,
    the wait for a slot included; None before the first. `errors` are calls that ended with an error after their model
    was found, and `refused` those beyond the rate limit, which are no `calls`."""

    calls: int = 0
    errors: int = 0
    refused: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    first_token_s: float | None = None
    last_call_at: datetime | None = None


@dataclass(slots=True)
class _Tally:
    """The running figures of one deployment."""

    calls: int = 0
    errors: int = 0
    refused: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    first_token_s: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_TIMES))
    last_call_at: datetime | None = None


class DeploymentTraffic:
    """The tallies of all deployments. One that is deleted and made again under its name begins anew.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self._tallies: OrderedDict[tuple[str, str, datetime], _Tally] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, deployment: Deployment) -> Traffic:
        """The figures of a deployment; zeros before its first call."""
        with self._lock:
            tally = self._tallies.get(_key(deployment))
            if tally is None:
                return Traffic()
            return Traffic(
                tally.calls,
                tally.errors,
                tally.refused,
                tally.input_tokens,
                tally.output_tokens,
                statistics.median(tally.first_token_s) if tally.first_token_s else None,
                tally.last_call_at,
            )

    def count_refusal(self, deployment: Deployment | None) -> None:
        """Counts a call beyond the rate limit; of a model without a deployment nothing is counted."""
        if deployment is not None:
            with self._lock:
                self._tally(deployment).refused += 1

    async def metered(
        self, deployment: Deployment | None, now: datetime, parts: AsyncGenerator[T]
    ) -> AsyncGenerator[T]:
        """The parts of an answer, passed on: its beginning, its usage and its error are counted.

        Closing the generator closes `parts`. Raises what `parts` raises.
        """
        async with aclosing(parts):
            if deployment is None:
                async for part in parts:
                    yield part
                return
            self._begin(deployment, now)
            asked_s: float | None = time.perf_counter()
            try:
                async for part in parts:
                    if asked_s is not None:
                        self._count_first_token(deployment, time.perf_counter() - asked_s)
                        asked_s = None
                    if isinstance(part, Usage):
                        self._count_usage(deployment, part.prompt_tokens, part.completion_tokens)
                    yield part
            except LuthierError:
                self._count_error(deployment)
                raise

    async def counted(
        self, deployment: Deployment | None, now: datetime, answer: Awaitable[T], usage: Callable[[T], tuple[int, int]]
    ) -> T:
        """The answer of a call that comes in one piece; `usage` gives its input and output tokens.

        Raises what `answer` raises.
        """
        if deployment is None:
            return await answer
        self._begin(deployment, now)
        try:
            whole = await answer
        except LuthierError:
            self._count_error(deployment)
            raise
        self._count_usage(deployment, *usage(whole))
        return whole

    def _begin(self, deployment: Deployment, now: datetime) -> None:
        """Counts a call whose model is found."""
        with self._lock:
            tally = self._tally(deployment)
            tally.calls += 1
            tally.last_call_at = now

    def _count_first_token(self, deployment: Deployment, seconds: float) -> None:
        with self._lock:
            self._tally(deployment).first_token_s.append(seconds)

    def _count_usage(self, deployment: Deployment, input_tokens: int, output_tokens: int) -> None:
        with self._lock:
            tally = self._tally(deployment)
            tally.input_tokens += input_tokens
            tally.output_tokens += output_tokens

    def _count_error(self, deployment: Deployment) -> None:
        with self._lock:
            self._tally(deployment).errors += 1

    def _tally(self, deployment: Deployment) -> _Tally:
        """The deployment's tally, new if there is none, as the latest one; needs the lock."""
        key = _key(deployment)
        tally = self._tallies.setdefault(key, _Tally())
        self._tallies.move_to_end(key)
        if len(self._tallies) > MOST_DEPLOYMENTS:
            self._tallies.popitem(last=False)
        return tally


def _key(deployment: Deployment) -> tuple[str, str, datetime]:
    return deployment.resource_id, deployment.name, deployment.created_at
