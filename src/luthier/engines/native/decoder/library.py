"""The decoder of decoder.cpp as Python calls it: built once a machine, then steps over rows of many sequences.

Classes and numbers mirror those of the C++ headers; weights come from `weights`, steps from `steps.scheduler`.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from luthier.process import cpp_library

Array = "np.ndarray[Any, np.dtype[Any]]"

_FOLDER = Path(__file__).parent
_SOURCES = tuple(_FOLDER / name for name in ("decoder.cpp", "decoder_weights.cpp", "interface.cpp", "sampler.cpp"))
_HEADERS = tuple(_FOLDER / name for name in ("decoder.h", "linear.h", "attention.h", "thread_pool.h", "vectors.h"))
_FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512", "-ffp-contract=fast"),
    *("-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared", "-pthread"),
)
PAGE = 64
"""Positions of a page of the KV cache."""
LANES = 16
"""Outputs of a matrix are computed by so many: sizes of models must be multiples of it."""


class Format(IntEnum):
    """Number formats of weights: Format of linear.h."""

    FLOAT32 = 0
    BFLOAT16 = 1
    FLOAT16 = 2


class Module(IntEnum):
    """The linear modules of a layer: Module of decoder.h."""

    Q = 0
    K = 1
    V = 2
    O = 3  # noqa: E741
    GATE = 4
    UP = 5
    DOWN = 6


class Norm(IntEnum):
    """The norms of a layer, as Decoder::set_norm numbers them."""

    INPUT = 0
    POST_ATTENTION = 1
    QUERY = 2
    KEY = 3


class _Shape(ctypes.Structure):
    """`Shape` as decoder.h has it."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("n_layers", "hidden", "n_heads", "n_kv_heads", "head_dim")),
        *((name, ctypes.c_int32) for name in ("intermediate", "vocabulary", "context", "sliding_window", "n_pages")),
        ("epsilon", ctypes.c_float),
    )


class _Segment(ctypes.Structure):
    """`Segment` as decoder.h has it: the addresses of int32 arrays."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("first_position", "n_tokens", "adapter", "n_logits")),
        ("tokens", ctypes.c_void_p),
        ("pages", ctypes.c_void_p),
    )


class Draw(ctypes.Structure):
    """One token to draw, and what was drawn: Draw of sampler.cpp, with the addresses of arrays that the caller keeps.

    `token` is -1 where the mask lets none come, -2 where a logit is not finite. `n_top` -1 is no log-probabilities.
    """

    _fields_ = (
        ("logits", ctypes.c_void_p),
        ("mask", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in ("bias_tokens", "bias_values", "seen_tokens", "seen_counts")),
        *((name, ctypes.c_int32) for name in ("n_biases", "n_seen", "n_top")),
        *((name, ctypes.c_float) for name in ("temperature", "top_p", "frequency", "presence")),
        ("uniform", ctypes.c_double),
        ("token", ctypes.c_int32),
        ("log_prob", ctypes.c_float),
        ("top_tokens", ctypes.c_void_p),
        ("top_log_probs", ctypes.c_void_p),
    )


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a model, and of the KV cache in pages of PAGE positions; `sliding_window` in tokens is 0 for none."""

    n_layers: int
    hidden: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    context: int
    sliding_window: int
    n_pages: int
    epsilon: float


@dataclass(slots=True)
class Segment:
    """Tokens of one sequence that a step computes, from `first_position` on; logits of the last `n_logits` of them.

    `adapter` is one that `add_adapter` gave, or NO_ADAPTER. `pages` (int32) are the sequence's, of all positions.
    """

    first_position: int
    tokens: "np.ndarray[Any, np.dtype[np.int32]]"
    adapter: int
    n_logits: int
    pages: "np.ndarray[Any, np.dtype[np.int32]]"


NO_ADAPTER = -1

_SIGNATURES: dict[str, tuple[Any, str]] = {
    "decoder_new": (ctypes.c_void_p, "pppi"),
    "decoder_delete": (None, "p"),
    "decoder_set_matrix": (None, "piiip"),
    "decoder_set_bias": (None, "piip"),
    "decoder_set_norm": (None, "piip"),
    "decoder_set_embedding": (None, "pippp"),
    "decoder_add_adapter": (ctypes.c_int, "p"),
    "decoder_set_low_rank": (None, "piiiifpp"),
    "decoder_remove_adapter": (None, "pi"),
    "decoder_copy_page": (None, "pii"),
    "decoder_step": (None, "ppip"),
    "decoder_draw": (None, "pipi"),
}
_TYPES = {"p": ctypes.c_void_p, "i": ctypes.c_int, "f": ctypes.c_float}


@cache
def load() -> ctypes.CDLL | None:
    """The compiled library, built if need be (about ten seconds, once a machine); None where it cannot be had."""
    path = cpp_library.build("native", _SOURCES, _HEADERS, _FLAGS)
    if path is None:
        return None
    library = ctypes.CDLL(str(path))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, [_TYPES[letter] for letter in arguments]
    return library


class Decoder:
    """A model's weights, adapters and KV cache, in C++. Not thread-safe. Shapes of arrays are not checked."""

    def __init__(self, shape: Shape, cosines: Any, sines: Any, n_threads: int) -> None:
        """`cosines` and `sines` are float32 of the shape [context, head_dim / 2]. Raises MemoryError, OSError."""
        library = load()
        if library is None:
            raise OSError("no C++ compiler, or it does not build the decoder")
        self._library = library
        self.shape = shape
        self.row = -(-shape.vocabulary // LANES) * LANES
        """Numbers in a row of logits: the vocabulary, and what fills the last panel."""
        values = _Shape(**asdict(shape))
        self._handle = library.decoder_new(ctypes.byref(values), _pointer(cosines), _pointer(sines), n_threads)
        if not self._handle:
            raise MemoryError("no memory for the KV cache")

    def close(self) -> None:
        """Frees weights and cache; the decoder cannot be used any more."""
        self._library.decoder_delete(self._handle)
        self._handle = None

    def set_matrix(self, layer: int, module: Module, format: Format, weights: Any) -> None:
        """Copies a module's weight matrix [outputs, inputs], row-major as checkpoints have it."""
        self._library.decoder_set_matrix(self._handle, layer, module, format, _pointer(weights))

    def set_bias(self, layer: int, module: Module, bias: Any) -> None:
        """Copies a module's bias, float32 [outputs]."""
        self._library.decoder_set_bias(self._handle, layer, module, _pointer(bias))

    def set_norm(self, layer: int, norm: Norm, weights: Any) -> None:
        """Copies the weights of a norm, float32 [hidden], or [head_dim] for QUERY and KEY."""
        self._library.decoder_set_norm(self._handle, layer, norm, _pointer(weights))

    def set_embedding(self, format: Format, rows: Any, norm: Any, head: Any) -> None:
        """The embedding [vocabulary, hidden], the final norm's weights, and the output's matrix in the same format.

        The embedding is used where it lies, and kept alive here; the others are copied.
        """
        self._embedding = rows
        self._library.decoder_set_embedding(self._handle, format, _pointer(rows), _pointer(norm), _pointer(head))

    def add_adapter(self) -> int:
        """Makes an adapter without matrices, which changes nothing yet; returns its number, which is not used again."""
        return int(self._library.decoder_add_adapter(self._handle))

    def set_low_rank(self, adapter: int, layer: int, module: Module, scale: float, a: Any, b: Any) -> None:
        """One module's matrices of an adapter, float32 [rank, inputs] and [outputs, rank]: it adds scale * B A x."""
        pointers = (_pointer(a), _pointer(b))
        self._library.decoder_set_low_rank(self._handle, adapter, layer, module, a.shape[0], scale, *pointers)

    def remove_adapter(self, adapter: int) -> None:
        """Frees an adapter's matrices. No later step may name it."""
        self._library.decoder_remove_adapter(self._handle, adapter)

    def copy_page(self, source: int, target: int) -> None:
        """Copies what a page of the KV cache holds into another one, all layers of all its positions."""
        self._library.decoder_copy_page(self._handle, source, target)

    def step(self, segments: Sequence[Segment], logits: Any) -> None:
        """Computes the segments' tokens, a row each, and writes their keys and values into their pages of the KV cache.

        Writes float32 `logits` [wanted tokens, `row`], in the order of segments.
        """
        values = (_Segment * len(segments))(
            *(
                _Segment(
                    segment.first_position,
                    len(segment.tokens),
                    segment.adapter,
                    segment.n_logits,
                    segment.tokens.ctypes.data,
                    segment.pages.ctypes.data,
                )
                for segment in segments
            )
        )
        self._library.decoder_step(self._handle, values, len(segments), _pointer(logits))

    def draw(self, draws: Sequence[Draw]) -> list[Draw]:
        """Draws a token for each, on all threads; returns the draws with what was drawn."""
        values = (Draw * len(draws))(*draws)
        self._library.decoder_draw(self._handle, self.shape.vocabulary, values, len(draws))
        return list(values)


def _pointer(array: Any) -> int:
    """The address of an array, which the caller keeps alive while C++ uses it."""
    assert array.flags.c_contiguous
    return int(array.ctypes.data)
