"""A file of this machine chunk by chunk, for commands that read it to its end."""

from collections.abc import Iterator
from pathlib import Path

_CHUNK_BYTES = 1 << 20


def read_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
