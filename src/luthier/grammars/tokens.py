"""Vocabularies that grammars are tested with: single bytes, and one as broad as a model's."""

import random
from collections.abc import Sequence

import llguidance

_LETTERS = b"etaoinshrdlucmfwypvbgkjqxz"
_BROAD_TOKENS = 12_000


class _Vocabulary:
    """What `llguidance.TokenizerWrapper` asks for: tokens by id, the last of them the end of an answer."""

    bos_token_id = None

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self.tokens = [*tokens, b"<|end|>"]
        self.eos_token_id = len(tokens)
        self.special_token_ids = [self.eos_token_id]

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def byte_tokenizer() -> llguidance.LLTokenizer:
    """One token a byte, its id the byte's value: for answers that are there already."""
    return _tokenizer([bytes([value]) for value in range(256)])


def broad_tokenizer() -> llguidance.LLTokenizer:
    """Single bytes, pairs of printable ones and words: an engine looks at as much for each token that it chooses."""
    rng = random.Random(0)
    tokens = dict.fromkeys(bytes([value]) for value in range(256))
    tokens |= dict.fromkeys(bytes([a, b]) for a in range(32, 127) for b in range(32, 127, 3))
    while len(tokens) < _BROAD_TOKENS:
        word = bytes(rng.choice(_LETTERS) for _ in range(rng.randint(3, 9)))
        tokens[b" " + word if rng.random() < 0.5 else word] = None
    return _tokenizer(list(tokens))


def _tokenizer(tokens: Sequence[bytes]) -> llguidance.LLTokenizer:
    vocabulary = _Vocabulary(tokens)
    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(vocabulary), n_vocab=len(vocabulary.tokens))
