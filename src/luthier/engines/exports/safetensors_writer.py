"""Writes a safetensors file tensor by tensor, in bf16 or f16: a model is never in memory as a whole."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType

from luthier.core.errors import Unsupported
from luthier.core.exports import ExportDtype
from luthier.engines.gguf.safetensors_file import FloatArray, Tensor

_NAMES = {ExportDtype.BF16: "BF16", ExportDtype.F16: "F16"}
_ALIGNMENT = 8
_ITEM_BYTES = 2


def write_weights(path: Path, weights: Mapping[str, Tensor], dtype: ExportDtype) -> None:
    """Writes the weights, each rounded once to `dtype`, sorted by name, and syncs the file.

    Raises Unsupported for a value that f16 cannot hold, and OSError.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(weights):
        begin, end = end, end + math.prod(weights[name].shape) * _ITEM_BYTES
        header[name] = {"dtype": _NAMES[dtype], "shape": list(weights[name].shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(weights):
            stream.write(_rounded(name, weights[name].read(), dtype))
        stream.flush()
        os.fsync(stream.fileno())


def _rounded(name: str, values: FloatArray, dtype: ExportDtype) -> bytes:
    """The values' bytes, rounded to the nearest, ties to even. Raises Unsupported for NaN and what f16 cannot hold."""
    kind = GGMLQuantizationType.BF16 if dtype is ExportDtype.BF16 else GGMLQuantizationType.F16
    flat = np.ascontiguousarray(values).reshape(1, -1)
    with np.errstate(over="ignore"):
        rounded = gguf.quants.quantize(flat, kind)
    is_finite = np.isfinite(values).all() and (dtype is ExportDtype.BF16 or np.isfinite(rounded).all())
    if not is_finite:
        raise Unsupported(
            "unsupported_weights", f"Tensor {name} has values beyond 65504 (the largest in f16) or NaN. Take bf16."
        )
    return bytes(rounded.tobytes())
