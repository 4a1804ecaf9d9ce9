"""The embedding model of the catalog, if it is in LUTHIER_MODELS_DIR: 84 MB, which no target for tests brings."""

import array
import os
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from transformers import BertTokenizerFast

from luthier.core.engine_ports import Address, ServedModel
from luthier.engines.embeddings import embedding_client
from luthier.engines.embeddings.embedding_engine import EmbeddingEngine
from luthier.engines.parity import check_parity
from luthier.tokenization.embedding_tokenizer import EmbeddingTokenizer
from wordpiece import HARD_TEXTS

NAME = "all-minilm-l6-v2"
FOLDER = Path(os.environ.get("LUTHIER_MODELS_DIR", ".cache/models")).absolute() / NAME
pytestmark = pytest.mark.skipif(
    not (FOLDER / "prepared.json").exists(), reason=f"{NAME} is not pulled: luthier models pull {NAME}"
)
MORE_TEXTS = (
    "İstanbul ﬁnance ½ ² ٣ Ångström ǅ ß ẞ œuvre",
    "日本語のテキスト、한국어 텍스트，中文文本。",
    "عربي עברית हिन्दी ไทย 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 🙂",
    "a\u0301e\u0308 \u00ad\u200b\ufeff\u202e x\u0000y \ufffd",
    "w" * 101 + " " + "w" * 100 + " [MASK] [SEP] [unused7]",
    "don't can't e-mail@example.org https://example.org/a_b?c=d#e 3.14 1,000,000 C++ $5",
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    engine = EmbeddingEngine(tmp_path_factory.mktemp("engines"), threads=2)
    yield engine.ensure(ServedModel(NAME, NAME, FOLDER, None, embeds=True))
    engine.close()


def test_vectors_and_tokens_are_the_stored_ones(address: Address) -> None:
    report = check_parity(address, FOLDER)
    assert report.agrees, report.reason
    assert report.positions == 12
    assert report.max_difference < 0.005


def test_tokens_of_hard_texts_are_those_of_transformers() -> None:
    own = EmbeddingTokenizer(FOLDER).token_ids([*HARD_TEXTS, *MORE_TEXTS])
    reference = BertTokenizerFast.from_pretrained(FOLDER / "hf")
    assert own == [reference(text)["input_ids"] for text in (*HARD_TEXTS, *MORE_TEXTS)]


def test_texts_of_one_meaning_are_near(address: Address) -> None:
    texts = ("How do I reset my password?", "I forgot my login and need a new one.", "The soup needs more salt.")
    body = {"input": EmbeddingTokenizer(FOLDER).token_ids(texts), "encoding_format": "base64"}
    reply = httpx2.post(f"{address.url}/embeddings", json=body, headers=dict(address.headers), timeout=60)
    one, two, three = (array.array("f", vector) for vector in embedding_client.vectors_of(reply, 3))
    assert sum(map(float.__mul__, one, two)) > 0.4 > 0.2 > sum(map(float.__mul__, one, three))
