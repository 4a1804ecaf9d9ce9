"""Cancellation of long work when the service stops: it ends between two chunks, and is redone after the next start."""

from collections.abc import Callable, Iterable, Iterator


class Stopped(Exception):
    """The service stops; the work is redone at its next start."""


def never() -> bool:
    """The `stopping` of callers that are never cancelled."""
    return False


def until(stopping: Callable[[], bool], chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the chunks, and asks `stopping` before each of them. Raises Stopped once that returns True."""
    for chunk in chunks:
        if stopping():
            raise Stopped
        yield chunk
