"""The chunks of a put: hashed and read in threads beside the writing, and told apart by whether one part holds all."""

import asyncio
import hashlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from queue import Empty, Queue
from typing import Self


class Begun:
    """Chunks of which up to `size` bytes, in whole chunks, are read at once: all of them if `is_all`.

    Iterated, it gives what was read and then the rest. Raises what the chunks raise.
    """

    def __init__(self, chunks: Iterator[bytes], size: int) -> None:
        self._chunks = chunks
        self._read: deque[bytes] = deque()
        length = 0
        while length < size and (chunk := next(chunks, None)) is not None:
            length += len(chunk)
            self._read.append(chunk)
        self.is_all = length < size

    def data(self) -> bytes:
        """All bytes, if `is_all`."""
        return b"".join(self._read)

    def __iter__(self) -> Iterator[bytes]:
        while self._read:
            yield self._read.popleft()
        yield from self._chunks


class BegunAsItComes:
    """As Begun, on the event loop. Not a generator: when a put is cancelled, the store may be awaiting a chunk."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._read: deque[bytes] = deque()
        self.is_all = False

    @classmethod
    async def of(cls, chunks: AsyncIterator[bytes], size: int) -> Self:
        """Reads up to `size` bytes of the chunks, in whole chunks."""
        begun = cls(chunks)
        length = 0
        while length < size:
            try:
                chunk = await anext(chunks)
            except StopAsyncIteration:
                begun.is_all = True
                break
            length += len(chunk)
            begun._read.append(chunk)
        return begun

    def data(self) -> bytes:
        """All bytes, if `is_all`."""
        return b"".join(self._read)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return self._read.popleft() if self._read else await anext(self._chunks)


class HashedChunks:
    """The chunks of one put on the event loop, counted, and each hashed in a worker thread while it is stored.

    Not a generator: when a put is cancelled, the store may be awaiting the next chunk.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self.sha256 = hashlib.sha256()
        self.length = 0
        self._chunks = chunks
        self._hashing: asyncio.Future[None] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next chunk, once the one before it is hashed; so `sha256` is complete after the last."""
        if self._hashing is not None:
            await self._hashing
            self._hashing = None
        chunk = await anext(self._chunks)
        self.length += len(chunk)
        self._hashing = asyncio.ensure_future(asyncio.to_thread(self.sha256.update, chunk))
        return chunk


class Digest:
    """A sha256 in its own thread: hashing releases the GIL, so it runs in parallel to reading and writing.

    At most four chunks wait for it; `finish` must be called, or the thread stays.
    """

    def __init__(self) -> None:
        """Starts the thread."""
        self._sha256 = hashlib.sha256()
        self._chunks: Queue[bytes | None] = Queue(maxsize=4)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def update(self, chunk: bytes) -> None:
        """Hands a chunk to the thread; waits where four are waiting already."""
        self._chunks.put(chunk)

    def finish(self) -> str:
        """Ends the thread and returns the digest of all chunks, in hex."""
        self._chunks.put(None)
        self._thread.join()
        return self._sha256.hexdigest()

    def _run(self) -> None:
        """The thread: hashes chunks until None comes."""
        while (chunk := self._chunks.get()) is not None:
            self._sha256.update(chunk)


def read_in_thread(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks, read in a thread of their own: obstore cannot read in the thread that it writes from.

    At most two wait in memory. What reading raises is raised here; closing the generator ends the thread.
    """
    read: Queue[bytes | BaseException | None] = Queue(maxsize=2)
    ended = threading.Event()

    def run() -> None:
        """The thread: puts each chunk, then None or the error, into the queue; stops early once nobody reads."""
        try:
            for chunk in chunks:
                read.put(chunk)
                if ended.is_set():
                    return
            read.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer
            read.put(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while (item := read.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        ended.set()
        while thread.is_alive():  # it may be blocked on the full queue
            with suppress(Empty):
                read.get(timeout=0.01)
        thread.join()
