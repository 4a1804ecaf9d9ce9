"""The tokenizers of prepared base models, for what a process asks of them: cached, and without torch."""

from functools import lru_cache
from pathlib import Path

from luthier.model_folder import BaseModelFolder
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer

_CACHED = 4
"""Some ten megabytes each."""


def load_tokenizer(base_folder: Path) -> TorchFreeTokenizer | None:
    """The tokenizer of a prepared base model, from a cache of the latest; None if its folder has no tokenizer.json.

    Raises OSError and ValueError for files that cannot be used.
    """
    hf = BaseModelFolder(base_folder).hf
    return _load(hf.path) if hf.tokenizer.exists() else None


@lru_cache(maxsize=_CACHED)
def _load(folder: Path) -> TorchFreeTokenizer:
    return TorchFreeTokenizer(folder)
