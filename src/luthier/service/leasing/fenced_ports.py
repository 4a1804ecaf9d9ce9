"""Blob store and executor for the holder of a lease: once it is lost they start, stop, store and delete nothing.

A check and its effect are two steps, so a process that is paused between them acts once more when it wakes. That does
no harm: a second trainer of a run does not get the run's lock, and a blob is deleted only after its row.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from luthier.core.ports import Blob, BlobStore, StoredBlob
from luthier.core.states import RunState
from luthier.core.training.executor_port import NONE_RUNNING, ONE_CPU, Ending, Executor, NodeRoom, RunNeeds

Check = Callable[[], None]
"""Raises LeaseLost if another process has taken over."""


@dataclass(frozen=True, slots=True)
class FencedBlobs:
    """Implements core.ports.BlobStore. Every method that changes something raises LeaseLost, and changes nothing."""

    blobs: BlobStore
    check: Check

    def put(self, key: str, chunks: Iterable[bytes]) -> Blob:
        """Checks before the first chunk and after the last, before the store makes the blob of them."""
        return self.blobs.put(key, self._checked(chunks))

    async def put_as_it_comes(self, key: str, chunks: AsyncIterator[bytes]) -> Blob:
        """For what a caller sends: that is received by API processes, which hold no lease."""
        return await self.blobs.put_as_it_comes(key, chunks)

    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        return self.blobs.open(key, start, length)

    def join(self, key: str, parts: Sequence[str], on_chunk: Callable[[bytes], object]) -> Blob:
        self.check()
        return self.blobs.join(key, parts, on_chunk)

    def delete(self, key: str) -> None:
        self.check()
        self.blobs.delete(key)

    def move(self, key: str, to: str) -> None:
        self.check()
        self.blobs.move(key, to)

    def abort_partial_puts(self, began_before: datetime) -> int:
        self.check()
        return self.blobs.abort_partial_puts(began_before)

    def stored(self, folder: str) -> Iterator[StoredBlob]:
        return self.blobs.stored(folder)

    def _checked(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        self.check()
        yield from chunks
        self.check()


@dataclass(frozen=True, slots=True)
class FencedExecutor:
    """Implements core.training.executor_port.Executor. What starts or ends a run, or deletes its bytes, raises
    LeaseLost: another process follows the run.
    """

    executor: Executor
    check: Check

    @property
    def outlives_service(self) -> bool:
        return self.executor.outlives_service

    def room(self, running: Mapping[str, RunNeeds] = NONE_RUNNING) -> Sequence[NodeRoom]:
        return self.executor.room(running)

    def start(self, run: Path, attempt: int = 1, needs: RunNeeds = ONE_CPU) -> str:
        self.check()
        return self.executor.start(run, attempt, needs)

    def find(self, run: Path, attempt: int = 1) -> str | None:
        return self.executor.find(run, attempt)

    def sync(self, run: Path, handle: str) -> None:
        self.check()
        self.executor.sync(run, handle)

    def look(self, handle: str) -> RunState:
        return self.executor.look(handle)

    def ending(self, handle: str) -> Ending:
        return self.executor.ending(handle)

    def ask_to_stop(self, handle: str) -> None:
        self.check()
        self.executor.ask_to_stop(handle)

    def stop(self, handle: str) -> None:
        self.check()
        self.executor.stop(handle)

    def kill(self, handle: str) -> None:
        self.check()
        self.executor.kill(handle)

    def discard(self, run: Path) -> None:
        self.check()
        self.executor.discard(run)
