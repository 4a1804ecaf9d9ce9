"""Builds kernels.cpp and attention_amx.cpp with the machine's C++ compiler, once, and calls them on tensors.

Without a compiler training takes the path of plain torch modules: the same mathematics, slower.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import platformdirs
import torch
from torch import Tensor

from luthier.process import child_environment

SWITCH = "LUTHIER_KERNELS"
"""The environment variable that, set to "off", keeps the compiled kernels out."""

_FOLDER = Path(__file__).parent
_SOURCES = [_FOLDER / "kernels.cpp", _FOLDER / "attention_amx.cpp"]
_HEADERS = [_FOLDER / "elements.h", _FOLDER / "amx_squares.h", _FOLDER / "amx_tasks.h"]
_COMPILERS = ("c++", "g++", "clang++")
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
        """Calls a function for elements of `dtype`; tensors must outlive the call and be laid out as it expects."""
        self._functions[name, dtype](*(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))

    def _bind(self, library: ctypes.CDLL, name: str, dtype: torch.dtype, signature: str) -> None:
        function = getattr(library, f"{name}_{_SUFFIXES[dtype]}")
        function.argtypes = [_TYPES[letter] for letter in signature]
        function.restype = None
        self._functions[name, dtype] = function


@functools.lru_cache(maxsize=1)
def load() -> Kernels | None:
    """The kernels, built if need be (about three seconds, once a machine); None where they cannot be had."""
    compiler = _compiler()
    if compiler is None:
        return None
    try:
        return Kernels(ctypes.CDLL(str(_built(compiler))))
    except (OSError, subprocess.SubprocessError):
        # A compiler without OpenMP, a cache that cannot be written: the other path needs neither.
        return None


def identity() -> str:
    """What the kernels' bits depend on, as a short hash; "none" where training goes without."""
    compiler = _compiler()
    return "none" if compiler is None or load() is None else _digest(compiler)


def _compiler() -> str | None:
    if os.environ.get(SWITCH) == "off":
        return None
    return next(filter(None, map(shutil.which, _COMPILERS)), None)


def _built(compiler: str) -> Path:
    """The library for these sources, compiler and processor, in the user's cache; renamed into place when whole."""
    folder = Path(platformdirs.user_cache_dir("luthier")) / "kernels"
    library = folder / f"{_digest(compiler)}.so"
    if not library.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            target = Path(scratch) / library.name
            command = [compiler, *_FLAGS, "-o", str(target), *map(str, _SOURCES)]
            subprocess.run(command, check=True, capture_output=True, timeout=120, env=_environment())
            target.replace(library)
    return library


def _digest(compiler: str) -> str:
    texts = [path.read_text() for path in (*_SOURCES, *_HEADERS)]
    identity = [*texts, *_FLAGS, _version(compiler), platform.machine(), _processor()]
    return hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]


def _version(compiler: str) -> str:
    command, environment = [compiler, "--version"], _environment()
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10, env=environment).stdout


def _environment() -> dict[str, str]:
    return child_environment.to_compute(os.environ)


def _processor() -> str:
    """What -march=native depends on: a cache may be shared by machines with other instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
