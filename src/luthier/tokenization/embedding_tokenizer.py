"""The tokenizer of an embedding model without torch: texts to token ids, [CLS] before and [SEP] behind each.

Engines are given these ids: llama.cpp's own WordPiece differs from the model's on some texts (docs/serving.md).
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from luthier.model_folder import EmbeddingFolder
from luthier.tokenization.torch_free_tokenizer import read_tokenizer

_BATCH = 64
"""Texts that are tokenized at once: what the library keeps of each is a multiple of its ids."""
_CACHED = 4
_UNUSED = re.compile(r"\[unused\d+\]|\[PAD\]|\[MASK\]")
"""Tokens of the vocabulary that no text gives."""


class EmbeddingTokenizer:
    """Read from a prepared embedding model's folder. Raises OSError and ValueError for files that cannot be used."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = read_tokenizer(EmbeddingFolder(folder).hf.tokenizer)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        ids = self._tokenizer.get_vocab(with_added_tokens=True)
        self.first_id, self.last_id = ids["[CLS]"], ids["[SEP]"]
        self.size = max(ids.values()) + 1
        self.unused = {id: token for token, id in ids.items() if _UNUSED.fullmatch(token)}
        """The tokens that no text gives, by id."""

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, special tokens included; all cores take part, and the interpreter is free meanwhile."""
        return [ids for at in range(0, len(texts), _BATCH) for ids in self._batch(texts[at : at + _BATCH])]

    def _batch(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """The ids of a few texts."""
        return (list(found.ids) for found in self._tokenizer.encode_batch_fast(list(texts)))

    def complete(self, token_ids: Sequence[int]) -> list[int]:
        """The ids of a text with the special tokens around it, unless they are there already."""
        before = [] if token_ids[:1] == [self.first_id] else [self.first_id]
        behind = [] if token_ids[-1:] == [self.last_id] else [self.last_id]
        return [*before, *token_ids, *behind]


@lru_cache(maxsize=_CACHED)
def load_tokenizer(folder: Path) -> EmbeddingTokenizer:
    """The tokenizer of a prepared embedding model, from a cache of the latest. Raises OSError and ValueError."""
    return EmbeddingTokenizer(folder)
