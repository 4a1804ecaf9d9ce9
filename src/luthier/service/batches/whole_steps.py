"""Steps in worker threads that are not left half-done: who is cancelled meanwhile waits for their end."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(step: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
    """The result of `step`, called in a worker thread; raises what it raises.

    A cancellation is raised once the thread has done: its files and rows are then as the step leaves them.
    """
    working = asyncio.ensure_future(asyncio.to_thread(step, *values, **named))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        with suppress(Exception):
            await working
        raise
