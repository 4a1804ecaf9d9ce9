"""A small WordPiece tokenizer of a BERT, and texts that are hard for one; an embedding model without weights."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIAL = ("[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    "the",
    "sea",
    "is",
    "wide",
    "ship",
    "##s",
    "far",
    "away",
    "12",
    "u",
    "##n",
    "##i",
    "東",
    "京",
    "здр",
    "##ав",
    "a",
)
HARD_TEXTS = (
    "The SEA is wide; ships, far away!",
    "Ünïcode naïve café",
    "東京 is 東京, and 日本 is not",
    "здравствуй مرحبا  한국의 수도",
    "ship" * 40 + " x" * 3,
    " \t the\n\nsea\u00a0is\u200bwide\u00ad ",
    "a",
)


def write_tokenizer(folder: Path, max_length: int = 16) -> Tokenizer:
    """A WordPiece tokenizer of a BERT with a truncation and a padding in its file, as published ones have."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1) if not chr(code).isupper()]
    tokens = list(dict.fromkeys([*SPECIAL, *WORDS, *letters, *(f"##{letter}" for letter in letters)]))
    vocabulary = {token: id for id, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL if token != "[unused0]"])
    tokenizer.enable_truncation(max_length)
    tokenizer.enable_padding(length=max_length)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def make_folder(folder: Path, max_tokens: int, dimensions: int = 4) -> Path:
    """What the service reads of a prepared embedding model; a fake engine needs no weights."""
    write_tokenizer(folder / "hf")
    description = {"pooling": "mean", "max_tokens": max_tokens, "dimensions": dimensions}
    (folder / "embedding.json").write_text(json.dumps(description))
    (folder / "prepared.json").write_text("{}")
    return folder
