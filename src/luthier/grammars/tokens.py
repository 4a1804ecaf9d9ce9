"""Vocabularies that grammars are compiled with, in place of a model's: single bytes, and one as broad as a model's.

`byte_tokenizer` is for matching answers (`grammar_checker`), `broad_tokenizer` for the trial of a grammar (`worker`).
"""

import random
from collections.abc import Sequence

import llguidance

_LETTERS = b"etaoinshrdlucmfwypvbgkjqxz"
_BROAD_TOKENS = 12_000


class _Vocabulary:
    """What `llguidance.TokenizerWrapper` asks for: tokens as bytes by id, the last of them the end of an answer."""

    bos_token_id = None

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self.tokens = [*tokens, b"<|end|>"]
        self.eos_token_id = len(tokens)
        self.special_token_ids = [self.eos_token_id]

    def __call__(self, text: bytes) -> list[int]:
        """The ids of a text byte by byte: the first 256 tokens of each vocabulary here are the single bytes."""
        return list(text)


def byte_tokenizer() -> llguidance.LLTokenizer:
    """One token for each byte, its id the byte's value: for answers that are there as text."""
    return _tokenizer([bytes([value]) for value in range(256)])


def broad_tokenizer() -> llguidance.LLTokenizer:
    """12,000 tokens: single bytes, pairs of printable ones, and random words, the same ones each time.

    An engine looks at as many for each token that it chooses.
    """
    rng = random.Random(0)
    tokens = dict.fromkeys(bytes([value]) for value in range(256))
    tokens |= dict.fromkeys(bytes([a, b]) for a in range(32, 127) for b in range(32, 127, 3))
    while len(tokens) < _BROAD_TOKENS:
        word = bytes(rng.choice(_LETTERS) for _ in range(rng.randint(3, 9)))
        tokens[b" " + word if rng.random() < 0.5 else word] = None
    return _tokenizer(list(tokens))


def _tokenizer(tokens: Sequence[bytes]) -> llguidance.LLTokenizer:
    """llguidance's tokenizer of these tokens and an end token."""
    vocabulary = _Vocabulary(tokens)
    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(vocabulary), n_vocab=len(vocabulary.tokens))
