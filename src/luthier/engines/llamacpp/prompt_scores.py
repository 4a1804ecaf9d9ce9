"""Log-probabilities of a prompt's own tokens, which llama.cpp's server does not give, through llama.cpp's C API.

The server's wheel exports it. What is passed has been stable in `llama.h` for years: parameter structs by value, with
the library's own defaults, of which only the first four numbers of a context's are checked and set here.
"""

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from luthier.core.errors import Unavailable

BATCH_TOKENS = 128
"""So many tokens are computed at once: their logits are in memory together. A call can be cancelled in between."""
_CONTEXT_MULTIPLE = 256
"""A context's length is a multiple of it."""
_EXPECTED_DEFAULTS = (512, 2048, 512, 1)
"""llama.cpp's own n_ctx, n_batch, n_ubatch and n_seq_max: others mean an unknown version of `llama.h`."""
_PIECE_BYTES = 1024


class _Parameters(ctypes.Structure):
    """Larger than that of any version; only the library knows the fields."""

    _fields_ = (("words", ctypes.c_uint32 * 256),)


class _Batch(ctypes.Structure):
    """`llama_batch` of llama.h."""

    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )


Entry = dict[str, Any]


class PromptScores:
    """One base model and its adapters, loaded at the first call; one prompt at a time. Thread-safe.

    `adapters` export the GGUF of each when it is needed, and give its path; their order is that of the server's
    adapters. The weights are memory-mapped from the same file as the server's.
    """

    def __init__(self, library: Path, base_gguf: Path, adapters: Sequence[Callable[[], Path]], threads: int) -> None:
        self._library = library
        self._base_gguf = base_gguf
        self._export_adapters = adapters
        self._threads = threads
        self._lock = threading.Lock()
        self._llama: ctypes.CDLL | None = None
        self._model: int = 0
        self._vocabulary: int = 0
        self._adapters: list[int] = []

    def score(
        self, tokens: Sequence[int], scales: Mapping[int, float], top: int, is_wanted: Callable[[], bool] = lambda: True
    ) -> list[Entry]:
        """An entry for each token, and one more for what would come next, without a token of its own.

        An entry has the token's id, text and bytes, its log-probability in nats after all tokens before it (None for
        the first), and the `top` likeliest in its position. `scales` are those of the adapters by their index. Raises
        Unavailable for an unknown version of the library, or if memory does not suffice; stops early, with what it has,
        once `is_wanted` is false.
        """
        with self._lock:
            llama = self._loaded()
            context = self._context(llama, len(tokens), scales)
            try:
                entries = [self._entry(llama, tokens[0], None, ())]
                for at, logits_NV in self._logits(llama, context, tokens):
                    entries += self._entries(llama, logits_NV, [*tokens[at + 1 : at + 1 + len(logits_NV)]], top)
                    if not is_wanted():
                        break
                return entries
            finally:
                llama.llama_free(context)

    def _logits(
        self, llama: ctypes.CDLL, context: int, tokens: Sequence[int]
    ) -> Iterator[tuple[int, "np.ndarray[Any, np.dtype[np.float32]]"]]:
        """The logits at each token, batch by batch, with the position of the first: float32 [tokens, vocabulary].

        They are valid until the next batch. Raises Unavailable.
        """
        width = llama.llama_vocab_n_tokens(self._vocabulary)
        batch = llama.llama_batch_init(BATCH_TOKENS, 0, 1)
        try:
            for at in range(0, len(tokens), BATCH_TOKENS):
                part = tokens[at : at + BATCH_TOKENS]
                batch.n_tokens = len(part)
                for index, token in enumerate(part):
                    batch.token[index], batch.pos[index] = token, at + index
                    batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
                    batch.logits[index] = 1
                if llama.llama_decode(context, batch) != 0:
                    raise _unavailable("has no room for the prompt")
                yield at, np.ctypeslib.as_array(llama.llama_get_logits(context), (len(part), width))
        finally:
            llama.llama_batch_free(batch)

    def _entries(
        self, llama: ctypes.CDLL, logits_NV: "np.ndarray[Any, np.dtype[np.float32]]", following: list[int], top: int
    ) -> Iterator[Entry]:
        """The entry after each position: the next token's, or one without a token at the end of the prompt."""
        log_probs_NV = logits_NV.astype(np.float64)
        log_probs_NV -= log_probs_NV.max(axis=1, keepdims=True)
        log_probs_NV -= np.log(np.exp(log_probs_NV).sum(axis=1, keepdims=True))
        for index, log_probs_V in enumerate(log_probs_NV):
            n_top = min(max(top, 1), len(log_probs_V))
            likeliest = np.argpartition(log_probs_V, -n_top)[-n_top:]
            ranked = [(int(id), float(log_probs_V[id])) for id in likeliest[np.argsort(-log_probs_V[likeliest])]]
            token = following[index] if index < len(following) else None
            yield self._entry(llama, token, None if token is None else float(log_probs_V[token]), ranked)

    def _entry(
        self, llama: ctypes.CDLL, token: int | None, logprob: float | None, ranked: Sequence[tuple[int, float]]
    ) -> Entry:
        """An entry: the token (None behind the prompt's end), its log-probability, the likeliest, best first."""
        alternatives = [{**self._piece(llama, id), "logprob": value} for id, value in ranked]
        own: Entry = {"id": None} if token is None else self._piece(llama, token)
        return {**own, "logprob": logprob, "top_logprobs": alternatives}

    def _piece(self, llama: ctypes.CDLL, token: int) -> Entry:
        """A token's id, text and bytes; halves of characters are replaced in the text."""
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        length = llama.llama_token_to_piece(self._vocabulary, token, buffer, _PIECE_BYTES, 0, True)
        data = buffer.raw[: max(0, length)]
        return {"id": token, "token": data.decode("utf-8", "replace"), "bytes": [*data]}

    def _context(self, llama: ctypes.CDLL, length: int, scales: Mapping[int, float]) -> int:
        """A context of llama.cpp for so many tokens, with the adapters of a scale other than 0; the caller frees it.

        Raises Unavailable for an unknown version of the library, too little memory, or an adapter that is refused.
        """
        parameters = llama.llama_context_default_params()
        if tuple(parameters.words[: len(_EXPECTED_DEFAULTS)]) != _EXPECTED_DEFAULTS:
            raise _unavailable("is another version than the one that Luthier knows")
        parameters.words[0] = -(-length // _CONTEXT_MULTIPLE) * _CONTEXT_MULTIPLE
        parameters.words[1] = parameters.words[2] = BATCH_TOKENS
        context: int | None = llama.llama_init_from_model(self._model, parameters)
        if not context:
            raise _unavailable("has no memory for the prompt")
        llama.llama_set_n_threads(context, self._threads, self._threads)
        chosen = [(self._adapters[place], scale) for place, scale in scales.items() if scale]
        if chosen:
            handles = (ctypes.c_void_p * len(chosen))(*[handle for handle, _ in chosen])
            weights = (ctypes.c_float * len(chosen))(*[scale for _, scale in chosen])
            if llama.llama_set_adapters_lora(context, handles, len(chosen), weights) != 0:
                llama.llama_free(context)
                raise _unavailable("does not take the adapter")
        return context

    def _loaded(self) -> ctypes.CDLL:
        """The library; at the first call it loads the base and, from files that are deleted again, the adapters.

        To be called with the lock. Raises Unavailable.
        """
        if self._llama is not None:
            return self._llama
        llama = _with_types(ctypes.CDLL(str(self._library)))
        model = llama.llama_model_load_from_file(str(self._base_gguf).encode(), llama.llama_model_default_params())
        if not model:
            raise _unavailable("cannot load the model a second time")
        adapters = []
        for export_adapter in self._export_adapters:  # all of them before there is a context
            path = export_adapter()
            adapters.append(llama.llama_adapter_lora_init(model, str(path).encode()))
            path.unlink()
        if not all(adapters):
            llama.llama_model_free(model)  # with the adapters: the next call loads all anew
            raise _unavailable("cannot load an adapter")
        self._model, self._adapters = model, adapters
        self._vocabulary = llama.llama_model_get_vocab(model)
        self._llama = llama
        return llama


def _with_types(llama: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of the functions that are called. Raises Unavailable if one is missing."""
    handle, text, int32 = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32
    types: Mapping[str, tuple[Any, list[Any]]] = {
        "llama_model_default_params": (_Parameters, []),
        "llama_context_default_params": (_Parameters, []),
        "llama_model_load_from_file": (handle, [text, _Parameters]),
        "llama_model_free": (None, [handle]),
        "llama_model_get_vocab": (handle, [handle]),
        "llama_vocab_n_tokens": (int32, [handle]),
        "llama_adapter_lora_init": (handle, [handle, text]),
        "llama_init_from_model": (handle, [handle, _Parameters]),
        "llama_set_adapters_lora": (int32, [handle, handle, ctypes.c_size_t, ctypes.POINTER(ctypes.c_float)]),
        "llama_set_n_threads": (None, [handle, int32, int32]),
        "llama_batch_init": (_Batch, [int32, int32, int32]),
        "llama_batch_free": (None, [_Batch]),
        "llama_decode": (int32, [handle, _Batch]),
        "llama_get_logits": (ctypes.POINTER(ctypes.c_float), [handle]),
        "llama_token_to_piece": (int32, [handle, int32, text, int32, int32, ctypes.c_bool]),
        "llama_free": (None, [handle]),
    }
    for name, (result, arguments) in types.items():
        try:
            function = getattr(llama, name)
        except AttributeError as error:
            raise _unavailable(f"has no {name}") from error
        function.restype, function.argtypes = result, arguments
    return llama


def _unavailable(what: str) -> Unavailable:
    """The error for log-probabilities of a prompt that cannot be computed because llama.cpp `what`."""
    return Unavailable("prompt_logprobs_unavailable", f"llama.cpp {what}: log-probabilities of prompts cannot be had.")
