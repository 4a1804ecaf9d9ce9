"""A base model in an engine process: decoder, tokenizer, and the adapters that are loaded now."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llguidance
import tokenizers

from luthier.core.errors import Unavailable
from luthier.engines.native import weights
from luthier.engines.native.library import NO_ADAPTER
from luthier.engines.native.sequences import Vocabulary
from luthier.model_folder import CheckpointFolder, HuggingFaceFolder
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer


class LoadedModel:
    """Not thread-safe but for `adapter` and the tokenizer."""

    def __init__(self, base_folder: Path, context_tokens: int, n_threads: int) -> None:
        """Raises Unsupported, OSError, MemoryError, KeyError and ValueError."""
        hf = HuggingFaceFolder(base_folder)
        self.decoder = weights.load_model(hf, weights.pages_for(context_tokens), n_threads)
        self._tokenizer = tokenizers.Tokenizer.from_file(str(hf.tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        end_ids = TorchFreeTokenizer(hf.path).end_ids
        size = max(self.decoder.shape.vocabulary, self._tokenizer.get_vocab_size())
        text = hf.tokenizer.read_text("utf-8")
        self.grammar_tokenizer = llguidance.LLTokenizer(text, n_vocab=size, eos_token=min(end_ids))
        self.vocabulary = self._vocabulary(size, end_ids)
        self._adapters: dict[str, int] = {}

    def properties(self) -> dict[str, Any]:
        """What the parent tells callers."""
        return {"window_tokens": self.decoder.shape.context}

    def adapter(self, model: str | None) -> int:
        """The decoder's number of a model's adapter; `model` is None for the base. Raises Unavailable."""
        if model is None:
            return NO_ADAPTER
        adapter = self._adapters.get(model)
        if adapter is None:
            raise Unavailable("model_not_loaded", "The engine has not loaded this model. Ask again.")
        return adapter

    def load(self, model: str, folder: Path) -> None:
        """Loads an adapter; one of that name stays as it is, for a name always means the same weights."""
        if model not in self._adapters:
            self._adapters[model] = weights.load_adapter(self.decoder, CheckpointFolder(folder))

    def unload(self, model: str) -> None:
        adapter = self._adapters.pop(model, None)
        if adapter is not None:
            self.decoder.remove_adapter(adapter)

    def token_ids(self, text: str) -> list[int]:
        """The tokens of a prompt's text, special tokens recognised and those that begin every prompt added."""
        return list(self._tokenizer.encode(text, add_special_tokens=True).ids)

    def text(self, token_ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=False))

    def _vocabulary(self, size: int, end_ids: frozenset[int]) -> Vocabulary:
        tokenizer = self.grammar_tokenizer
        hidden = frozenset(id for id, token in self._tokenizer.get_added_tokens_decoder().items() if token.special)
        return Vocabulary([tokenizer.decode_bytes([id]) for id in range(size)], end_ids, hidden)
