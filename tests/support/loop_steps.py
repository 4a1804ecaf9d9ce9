"""How long each step of a task holds an event loop, in processor time: that of other threads does not count."""

import asyncio
import time
from collections.abc import Coroutine, Generator
from typing import Any


class Steps:
    """A task factory; `longest` has the longest step of each kind of task that was made since, in seconds."""

    def __init__(self) -> None:
        self.longest: dict[str, float] = {}

    def __call__(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any) -> Any:
        return asyncio.Task(_Timed(work, self), loop=loop, **options)

    def note(self, name: str, seconds: float) -> None:
        self.longest[name] = max(seconds, self.longest.get(name, 0.0))


class _Timed(Coroutine[Any, Any, Any]):
    def __init__(self, work: Coroutine[Any, Any, Any], steps: Steps) -> None:
        self._work = work
        self._steps = steps

    def send(self, value: Any) -> Any:
        return self._timed(lambda: self._work.send(value))

    def throw(self, *error: Any) -> Any:
        return self._timed(lambda: self._work.throw(*error))

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._work.__await__()

    def _timed(self, step: Any) -> Any:
        began = time.thread_time()
        try:
            return step()
        finally:
            self._steps.note(getattr(self._work, "__qualname__", "?"), time.thread_time() - began)
