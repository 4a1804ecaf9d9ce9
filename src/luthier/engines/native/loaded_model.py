"""A base model in an engine process: decoder, tokenizer, and the adapters that are loaded now.

`EngineServer` uses it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import llguidance
import tokenizers

from luthier.core.errors import InvalidRequest, Unavailable
from luthier.engines.native.decoder import adapters, weights
from luthier.engines.native.decoder.library import NO_ADAPTER, PAGE
from luthier.engines.native.decoder.model_config import Unsupported
from luthier.engines.native.protocol import INVALID
from luthier.engines.native.steps.sequences import Vocabulary
from luthier.model_folder import CheckpointFolder, HuggingFaceFolder
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer


class LoadedModel:
    """One base model with its adapters by model name.

    Not thread-safe but for `adapter` and the tokenizer: adapters are loaded and unloaded on the decoder's thread alone.
    """

    def __init__(self, base_folder: Path, context_tokens: int, n_threads: int) -> None:
        """Reads a folder in Hugging Face layout; `context_tokens` is the size of the KV cache that all sequences share.

        Raises Unsupported for a model that is not computed here, OSError, MemoryError, KeyError and ValueError.
        """
        hf = HuggingFaceFolder(base_folder)
        self.decoder = weights.load_model(hf, weights.pages_for(context_tokens), n_threads)
        self._tokenizer = tokenizers.Tokenizer.from_file(str(hf.tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        end_ids = TorchFreeTokenizer(hf.path).end_ids
        if not end_ids:
            raise Unsupported("its files name no token that ends an answer")
        size = max(self.decoder.shape.vocabulary, self._tokenizer.get_vocab_size())
        text = hf.tokenizer.read_text("utf-8")
        self.grammar_tokenizer = llguidance.LLTokenizer(text, n_vocab=size, eos_token=min(end_ids))
        self.vocabulary = self._vocabulary(size, end_ids)
        self._adapters: dict[str, int] = {}

    def check(self, prompt: Sequence[int], n_more: int) -> None:
        """Raises InvalidRequest for an empty prompt, an unknown token id, or too many tokens for model or cache.

        `n_more` are the most tokens that the answer may have behind the prompt.
        """
        shape = self.decoder.shape
        if not prompt:
            raise InvalidRequest(INVALID, "The prompt has no token.")
        if not all(0 <= id < shape.vocabulary for id in prompt):
            raise InvalidRequest(INVALID, f"A token of the prompt is not below {shape.vocabulary}.")
        most = min(shape.context, shape.n_pages * PAGE)
        if len(prompt) + n_more > most:
            raise InvalidRequest(
                INVALID, f"Prompt and answer come to {len(prompt) + n_more} tokens, of {most} at most."
            )

    def check_biases(self, biases: Mapping[int, float]) -> None:
        """Raises InvalidRequest for a bias of a token that does not exist."""
        if not all(0 <= id < self.decoder.shape.vocabulary for id in biases):
            raise InvalidRequest(INVALID, f"A token of logit_bias is not below {self.decoder.shape.vocabulary}.")

    def properties(self) -> dict[str, Any]:
        """What the process's ready line tells the parent: `window_tokens`, the model's context length."""
        return {"window_tokens": self.decoder.shape.context}

    def adapter(self, model: str | None) -> int:
        """The decoder's number of a model's adapter; NO_ADAPTER for None, the base itself.

        Raises Unavailable if the adapter is not loaded: the caller may ask again.
        """
        if model is None:
            return NO_ADAPTER
        adapter = self._adapters.get(model)
        if adapter is None:
            raise Unavailable("model_not_loaded", "The engine has not loaded this model. Ask again.")
        return adapter

    def load(self, model: str, folder: Path) -> None:
        """Reads an adapter into the decoder; one of that name stays as it is, for a name always means the same weights.

        Raises Unavailable for one that this engine cannot apply, OSError, and ValueError or KeyError for a damaged one.
        """
        if model not in self._adapters:
            self._adapters[model] = adapters.load_adapter(self.decoder, CheckpointFolder(folder))

    def unload(self, model: str) -> None:
        """Removes an adapter from the decoder: no sequence may use it any more. One that is not loaded is no error."""
        adapter = self._adapters.pop(model, None)
        if adapter is not None:
            self.decoder.remove_adapter(adapter)

    def token_ids(self, text: str) -> list[int]:
        """The tokens of a prompt's text, special tokens recognised and those that begin every prompt added."""
        return list(self._tokenizer.encode(text, add_special_tokens=True).ids)

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=False))

    def _vocabulary(self, size: int, end_ids: frozenset[int]) -> Vocabulary:
        """The bytes of each of `size` ids, with the end tokens, and the special tokens that no answer shows."""
        tokenizer, known = self.grammar_tokenizer, self._tokenizer.get_vocab_size()
        # Rows that fill the vocabulary up, and that no text has, are no text.
        pieces = [tokenizer.decode_bytes([id]) if id < known else b"" for id in range(size)]
        hidden = frozenset(id for id, token in self._tokenizer.get_added_tokens_decoder().items() if token.special)
        return Vocabulary(pieces, end_ids, hidden)
