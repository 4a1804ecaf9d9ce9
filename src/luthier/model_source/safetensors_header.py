"""A safetensors file's header, checked: what it says of its tensors holds for the bytes that are there.

The format: eight bytes of header length, a JSON header of dtype, shape and offsets, then the tensors without gaps.
https://github.com/huggingface/safetensors
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.core.errors import InvalidRequest
from luthier.model_source.bounded_json import damaged, parse_object

MAX_HEADER_BYTES = 25_000_000
"""A header of 70 billion parameters in 723 tensors has 80,000."""
MAX_TENSORS = 1_000_000
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
}  # fmt: skip
FLOATS = frozenset(("F16", "BF16", "F32", "F64"))


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a file: `offset` counts bytes from the beginning of the file; `dtype` is safetensors' word."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def read(path: Path) -> list[TensorEntry]:
    """All tensors of a file, in the order of their bytes; their bytes are not read.

    Raises InvalidRequest that names the file and the fault, also for a file that is missing or cut short.
    """
    if not path.is_file():
        raise InvalidRequest("missing_weights", f"{path} is missing. Fetch the file again, or name another source.")
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise damaged(path, f"is no whole safetensors file: {size:,} bytes, with a header of {length:,}")
        header = parse_object(stream.read(length), path)
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise damaged(path, f"names {len(header):,} tensors; at most {MAX_TENSORS:,} are read")
    entries = sorted((_entry(name, value, path, 8 + length) for name, value in header.items()), key=lambda one: one[1:])
    end = 8 + length
    for _, start, stop in entries:
        if start != end:
            raise damaged(path, "has tensors that overlap, or bytes between them")
        end = stop
    if end != size:
        missing = end - size
        words = f"{missing:,} bytes are missing at its end" if missing > 0 else f"{-missing:,} bytes are too many"
        raise damaged(path, f"is not whole: {words}")
    return [entry for entry, _, _ in entries]


def _entry(name: str, value: Any, path: Path, origin: int) -> tuple[TensorEntry, int, int]:
    """One tensor of the header, with its first byte and the byte after its last, from the beginning of the file.

    `origin` is where the tensors' bytes begin. Raises InvalidRequest for a dtype, shape or range that cannot be.
    """
    match value:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(stop)]} if (
            dtype in _BITS and len(shape) <= 8 and all(type(axis) is int and 0 <= axis < 2**48 for axis in shape)
        ):
            n_bytes = math.prod(shape) * _BITS[dtype] // 8
            if 0 <= start <= stop and stop - start == n_bytes:
                return TensorEntry(name, dtype, tuple(shape), origin + start), origin + start, origin + stop
            raise damaged(
                path, f"says of tensor {name!r:.100} that it has {stop - start:,} bytes; its shape has {n_bytes:,}"
            )
        case {"dtype": str(dtype)} if dtype not in _BITS:
            raise damaged(path, f"has tensor {name!r:.100} in a dtype that is unknown here, {dtype!r:.20}")
    raise damaged(path, f"says nothing of use about tensor {name!r:.100}")
