"""Builds kernels.cpp and attention_amx.cpp with the machine's C++ compiler, once, and calls them on tensors.

Without a compiler training takes the path of plain torch modules: the same mathematics, slower.
"""

import ctypes
import functools
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from luthier.process import cpp_library

SWITCH = "LUTHIER_KERNELS"
"""The environment variable that, set to "off", keeps the compiled kernels out."""

_FOLDER = Path(__file__).parent
_SOURCES = [_FOLDER / "kernels.cpp", _FOLDER / "attention_amx.cpp"]
_HEADERS = [_FOLDER / "elements.h", _FOLDER / "amx_squares.h", _FOLDER / "amx_tasks.h"]
_FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512"),
    *("-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-shared"),
)
DTYPES = frozenset({torch.bfloat16, torch.float32})
_SUFFIXES = {torch.bfloat16: "bfloat16", torch.float32: "float32"}
# The arguments of each function: a pointer to elements, a number, a fraction.
_SIGNATURES = {
    "add_norm": "ppppplpllf",
    "norm_backward": "pppplplll",
    "pack_heads": "plpppppppllll",
    "unpack_gradients": "pppppppplllll",
    "move_heads": "pplpplllll",
    "causal_softmax": "plllllf",
    "causal_softmax_backward": "pplllllf",
    "silu_mul": "plplll",
    "silu_mul_backward": "plplplll",
    "cross_entropy": "pppppll",
}
# Those of attention_amx.cpp, for bfloat16 alone.
_TILE_SIGNATURES = {
    "attention_forward": "pplpppplpf",
    "attention_backward": "pplppplplppppplf",
}
_TYPES = {"p": ctypes.c_void_p, "l": ctypes.c_int64, "f": ctypes.c_float}


class Kernels:
    """The compiled functions: `call(name, dtype, ...)` with tensors for pointers and None for a null one."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Binds all functions of a loaded library, those of attention_amx.cpp only where they can run."""
        self._functions: dict[tuple[str, torch.dtype], Any] = {}
        self.tiles = bool(library.tiles_ready())
        """Whether attention_amx.cpp can run: processor, compiler and system know AMX."""
        for name, signature in _SIGNATURES.items():
            for dtype in DTYPES:
                self._bind(library, name, dtype, signature)
        if self.tiles:
            for name, signature in _TILE_SIGNATURES.items():
                self._bind(library, name, torch.bfloat16, signature)

    def call(self, name: str, dtype: torch.dtype, *arguments: Tensor | int | float | None) -> None:
        """Calls a function for elements of `dtype`, which writes to some of the tensors, as its comment in C++ says.

        Nothing is checked: tensors must be on the CPU, outlive the call, and be laid out as the function expects.
        """
        self._functions[name, dtype](*(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))

    def _bind(self, library: ctypes.CDLL, name: str, dtype: torch.dtype, signature: str) -> None:
        """Looks a function up for one dtype; `signature` has a letter for the C type of each argument."""
        function = getattr(library, f"{name}_{_SUFFIXES[dtype]}")
        function.argtypes = [_TYPES[letter] for letter in signature]
        function.restype = None
        self._functions[name, dtype] = function


@functools.lru_cache(maxsize=1)
def load() -> Kernels | None:
    """The kernels, built into the user's cache if need be (about three seconds, once a machine).

    None where they cannot be had: without a working compiler, or switched off by LUTHIER_KERNELS. The first result is
    kept for the life of the process.
    """
    if os.environ.get(SWITCH) == "off":
        return None
    library = cpp_library.build("trainer", _SOURCES, _HEADERS, _FLAGS)
    if library is None:
        return None
    try:
        return Kernels(ctypes.CDLL(str(library)))
    except OSError:
        return None


def identity() -> str:
    """What the kernels' bits depend on, as a short hash for the manifest: sources, flags, compiler and processor.

    "none" where training goes without. Compiles them into the user's cache, as `load`, if that was not done before.
    """
    compiler = cpp_library.compiler()
    if compiler is None or load() is None:
        return "none"
    return cpp_library.digest(compiler, _SOURCES, _HEADERS, _FLAGS)
