"""A GGUF file's header, checked: counts and lengths within bounds, every tensor within the file.

The format: magic, version, counts, metadata, tensor entries, then the tensors' bytes at aligned offsets.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from luthier.core.errors import InvalidRequest
from luthier.model_source.bounded_json import damaged

MAX_ENTRIES = 10_000
MAX_TENSORS = 100_000
MAX_MEMBERS = 4_000_000
"""Of one array: tokens, scores or merges."""
MAX_TEXT_BYTES = 1024**2
MAX_METADATA_BYTES = 256 * 1024**2

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 30: (1, 2),
}  # fmt: skip
"""Type of a tensor -> weights in a block, bytes of a block: floats, and the quantizations that are read here."""

Value = int | float | bool | str


@dataclass(slots=True)
class GgufHeader:
    """`metadata` has single values by key; of arrays `lengths` has how many members they have."""

    metadata: dict[str, Value] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    elements: dict[str, int] = field(default_factory=dict)
    """Weights of each tensor, by name."""


def read(path: Path) -> GgufHeader:
    """The header of a GGUF file; the tensors' bytes are not read. Raises InvalidRequest that names file and fault."""
    if not path.is_file():
        raise InvalidRequest("missing_weights", f"{path} is missing. Fetch the file again, or name another source.")
    with path.open("rb") as stream:
        try:
            return _Reader(path, stream).header()
        except UnicodeDecodeError:
            raise damaged(path, "has metadata that is not UTF-8") from None


class _Reader:
    """Reads one file's header from its beginning, and counts what it reads.

    Every method moves the stream forward, and raises InvalidRequest for what does not fit the format or its bounds.
    """

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        """`stream` is the open file at its beginning; the caller closes it."""
        self._path = path
        self._stream = stream
        self._size = path.stat().st_size
        self._read = 0

    def header(self) -> GgufHeader:
        """The whole header. Raises UnicodeDecodeError for text that is not UTF-8."""
        if self._take(4) != _MAGIC:
            raise damaged(self._path, "is no GGUF file: it does not begin with GGUF")
        version = self._number("<I")
        if version not in _VERSIONS:
            raise damaged(self._path, f"is GGUF of version {version}; versions 2 and 3 in little-endian are read")
        n_tensors = self._count("tensors", MAX_TENSORS)
        n_entries = self._count("metadata entries", MAX_ENTRIES)
        header = GgufHeader()
        for _ in range(n_entries):
            key = self._text()
            if key in header.metadata or key in header.lengths:
                raise damaged(self._path, f"has the metadata {key!r:.80} twice")
            self._entry(header, key, self._number("<I"))
        self._tensors(header, n_tensors)
        return header

    def _entry(self, header: GgufHeader, key: str, kind: int) -> None:
        """Reads one metadata value of the GGUF type `kind` into `header`: of an array only its length is kept."""
        if kind == _STRING:
            header.metadata[key] = self._text()
        elif kind == _ARRAY:
            member = self._number("<I")
            count = self._count(f"members of {key!r:.80}", MAX_MEMBERS)
            header.lengths[key] = count
            if member == _STRING:
                for _ in range(count):
                    self._take(self._count("bytes of a text", MAX_TEXT_BYTES)).decode("utf-8")
            elif member in _SCALARS:
                self._take(count * struct.calcsize(_SCALARS[member]))
            else:
                raise damaged(self._path, f"has metadata {key!r:.80} of a kind that is not read here")
        elif kind in _SCALARS:
            header.metadata[key] = self._number(_SCALARS[kind])
        else:
            raise damaged(self._path, f"has metadata {key!r:.80} of a kind that is not read here")

    def _tensors(self, header: GgufHeader, count: int) -> None:
        """Reads the tensor entries into `header.elements`, and checks that their bytes lie in the file and apart."""
        spans = []
        for _ in range(count):
            name = self._text()
            n_axes = self._count("axes of a tensor", 4, "<I")
            if n_axes < 1 or name in header.elements:
                raise damaged(self._path, f"has tensor {name!r:.80} twice or without a shape")
            elements = math.prod(self._number("<Q") for _ in range(n_axes))
            kind, offset = self._number("<I"), self._number("<Q")
            if kind not in _BLOCKS:
                raise damaged(self._path, f"has tensor {name!r:.80} in a type that is not read here ({kind})")
            block, n_bytes = _BLOCKS[kind]
            if elements >= 2**48 or elements % block:
                raise damaged(self._path, f"has tensor {name!r:.80} with a shape that cannot be")
            spans.append((offset, offset + elements // block * n_bytes, name))
            header.elements[name] = elements
        alignment = header.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 65_536:
            raise damaged(self._path, f"has an alignment of {alignment}")
        origin = -(-self._stream.tell() // alignment) * alignment
        end = 0
        for start, stop, name in sorted(spans):
            if start < end:
                raise damaged(self._path, f"has tensor {name!r:.80} on top of another")
            if origin + stop > self._size:
                words = f"{origin + stop - self._size:,} bytes of tensor {name!r:.80} are missing"
                raise damaged(self._path, f"is not whole: {words}")
            end = stop

    def _text(self) -> str:
        """A string: eight bytes of length, then UTF-8."""
        return self._take(self._count("bytes of a text", MAX_TEXT_BYTES)).decode("utf-8")

    def _count(self, what: str, most: int, form: str = "<Q") -> int:
        """The next count, of `what`, in a format of `struct`. Refuses more than `most`."""
        count = self._number(form)
        if count > most:
            raise damaged(self._path, f"has {count:,} {what}; at most {most:,} are read")
        return count

    def _number(self, form: str) -> int:
        """The next value in a format of `struct`; a float or a bool for some."""
        value: int = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return value

    def _take(self, count: int) -> bytes:
        """The next `count` bytes. Refuses more than the file or MAX_METADATA_BYTES in all."""
        self._read += count
        if self._read > MAX_METADATA_BYTES:
            raise damaged(self._path, f"has more than {MAX_METADATA_BYTES:,} bytes of metadata")
        data = self._stream.read(count)
        if len(data) != count:
            raise damaged(self._path, "ends in the middle of its header")
        return data
