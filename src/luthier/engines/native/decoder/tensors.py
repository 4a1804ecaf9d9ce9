"""The tensors of a safetensors file where they lie, mapped into memory."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luthier.engines.native.decoder.library import Format
from luthier.engines.native.decoder.model_config import Unsupported

_FORMATS = {
    "F32": (Format.FLOAT32, np.float32),
    "BF16": (Format.BFLOAT16, np.uint16),
    "F16": (Format.FLOAT16, np.uint16),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor where it lies in its file: `values` are a read-only map of it, bfloat16 and float16 as uint16."""

    format: Format
    values: Any

    def floats(self) -> Any:
        """The values in float32: a copy, but for a tensor that is float32 in the file already."""
        match self.format:
            case Format.FLOAT32:
                return np.ascontiguousarray(self.values, np.float32)
            case Format.FLOAT16:
                return self.values.view(np.float16).astype(np.float32)
            case Format.BFLOAT16:
                return (self.values.astype(np.uint32) << 16).view(np.float32)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by name; only the header is read, the values are mapped.

    Raises OSError, ValueError for a file that is none, and Unsupported for other formats.
    """
    mapped = np.memmap(path, np.uint8, "r")
    length = int.from_bytes(mapped[:8].tobytes(), "little")
    header = json.loads(mapped[8 : 8 + length].tobytes())
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _FORMATS:
            raise Unsupported(f"its tensor {name} is of the type {entry['dtype']}")
        format, dtype = _FORMATS[entry["dtype"]]
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = Tensor(format, mapped[begin:end].view(dtype).reshape(entry["shape"]))
    return tensors


def take(tensors: Mapping[str, Tensor], name: str, *shape: int) -> Tensor:
    """The tensor of that name. Raises Unsupported if it is missing, or of another shape than the decoder reads."""
    tensor = tensors.get(name)
    if tensor is None:
        raise Unsupported(f"it has no tensor {name}")
    if tensor.values.shape != shape:
        raise Unsupported(f"its tensor {name} has the shape {list(tensor.values.shape)}, not {list(shape)}")
    return tensor
