"""Vectors of fixed texts by the reference computation: transformers' encoder in float32, pooled, of length 1.

Stored as probes.json beside an embedding model; engines/embeddings/embedding_parity.py compares an engine with them.
"""

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

VERSION = 1
DECIMALS = 7
TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "What is the largest planet of the solar system?",
    "a",
    "UPPER CASE, lower case; 1,234.5 % of it (really?) - and e-mails: someone@example.org",
    "Ünïcode, naïve café, Ærøskøbing, ﬁnance, İstanbul, straße",
    "東京は日本の首都です。 北京是中国的首都。 서울은 한국의 수도입니다.",
    "Здравствуй, мир! مرحبا بالعالم שלום עולם สวัสดีชาวโลก नमस्ते दुनिया",
    "pneumonoultramicroscopicsilicovolcanoconiosis " + "x" * 120 + " donaudampfschifffahrtsgesellschaft",
    "  spaces\t\ttabs\n\nlines\r\n and\u00a0others\u200b\u00ad\ufeff  ",
    "def f(x): return {'a': x**2}  # [SEP] is a token, <b> is not",
    "The sea is wide and the ships are far away. " * 12,
    "retrieval needs vectors of whole passages, not of single words; " * 14,
)
"""Short, long, and hard for a tokenizer."""


def compute(encoder: Any, tokenizer: Any, pooling: str, max_tokens: int) -> bytes:
    """The bytes of probes.json: of each text that fits its token ids by the model's own tokenizer, and its vector.

    `encoder` is a model of transformers in float32.
    """
    probes = []
    for text in TEXTS:
        token_ids = list(tokenizer(text)["input_ids"])
        if len(token_ids) <= max_tokens:
            vector = [round(float(value), DECIMALS) for value in vector_of(encoder, token_ids, pooling)]
            probes.append({"text": text, "token_ids": token_ids, "embedding": vector})
    content = {"version": VERSION, "dtype": "float32", "probes": probes}
    return json.dumps(content, ensure_ascii=False).encode() + b"\n"


@torch.inference_mode()
def vector_of(encoder: Any, token_ids: Sequence[int], pooling: str) -> Tensor:
    """The vector of one text, of length 1: the mean of its tokens' last hidden states, or with "cls" the first one."""
    hidden_ND = encoder(input_ids=torch.tensor([list(token_ids)])).last_hidden_state[0]
    pooled_D = hidden_ND[0] if pooling == "cls" else hidden_ND.mean(dim=0)
    unit_D: Tensor = pooled_D / pooled_D.norm()
    return unit_D
