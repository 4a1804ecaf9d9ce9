"""Reads safetensors weights with numpy only: a serving machine needs no torch.

The `safetensors` package cannot hand bf16 to numpy (numpy has no such type), so the file is read here: eight bytes of
header length, a JSON header of dtype, shape and offsets, then the bytes. https://github.com/huggingface/safetensors
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from luthier.core.errors import Unsupported
from luthier.model_source import safetensors_header, source_checks

FloatArray = npt.NDArray[np.float32]


class Tensor(Protocol):
    """A tensor of a model, stored or computed when it is read."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    def read(self) -> FloatArray:
        """The values in memory, as a new array. Raises Unsupported for types that are not read here."""
        ...


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where one tensor is stored, `offset` bytes into its file.

    `read` converts it to float32, which has every bf16 and f16 value exactly.
    """

    name: str
    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    def read(self) -> FloatArray:
        """The values in memory, as a new array. Raises Unsupported for other types than BF16, F16 and F32."""
        match self.dtype:
            case "BF16":
                # A bf16 is the upper half of a float32.
                wide = self._map(np.dtype("<u2")).astype(np.uint32)
                wide <<= 16
                return wide.view(np.float32)
            case "F16":
                return self._map(np.dtype("<f2")).astype(np.float32)
            case "F32":
                return np.array(self._map(np.dtype("<f4")), dtype=np.float32)
            case _:
                raise Unsupported(
                    "unsupported_weights",
                    f"Tensor {self.name} is stored as {self.dtype}; only BF16, F16 and F32 weights can be served.",
                )

    def _map(self, dtype: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
        """The stored numbers as a read-only map of the file."""
        return np.memmap(self.path, dtype=dtype, mode="r", offset=self.offset, shape=self.shape)


def weights_of(folder: Path) -> dict[str, StoredTensor]:
    """Lists the tensors of a model folder, in one file or in shards, by name; reads headers only.

    Raises InvalidRequest for files that are missing, damaged or lie outside the folder.
    """
    return {tensor.name: tensor for name in source_checks.weight_files(folder) for tensor in tensors_of(folder / name)}


def tensors_of(path: Path) -> Iterator[StoredTensor]:
    """Lists the tensors of one file; nothing but its header is read, and that is checked. Raises InvalidRequest."""
    for entry in safetensors_header.read(source_checks.resolve_inside(path.parent, path.name)):
        yield StoredTensor(entry.name, path, entry.dtype, entry.shape, entry.offset)
