"""Tokens of legacy completions that end within a character are spelled apart, as OpenAI spells them."""

import pytest

from luthier.api.dialects.inference.completion_answers import spelling
from luthier.core.inference.generation import TokenLogProb


@pytest.mark.parametrize(
    ("data", "spelled"),
    [
        (b" word", " word"),
        ("ü".encode(), "ü"),
        (b"\xe6\x9d", r"bytes:\xe6\x9d"),
        (b"a\xf0", r"bytes:a\xf0".replace("a", r"\x61")),
        (b"", ""),
    ],
)
def test_token_is_its_text_or_its_bytes(data: bytes, spelled: str) -> None:
    assert spelling(TokenLogProb(data.decode("utf-8", "replace"), [*data], -1.0)) == spelled
