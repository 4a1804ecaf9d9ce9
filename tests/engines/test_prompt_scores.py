"""Log-probabilities of prompts, as llama.cpp's functions give them, are torch's: of the base and of a tuned model."""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import transformers

import small_models
from fakes import BASE
from luthier.core.engine_ports import Address, ServedModel
from luthier.core.errors import Unavailable
from luthier.engines.llamacpp.engine import LlamaCppEngine
from luthier.engines.llamacpp.prompt_scores import BATCH_TOKENS, PromptScores

pytestmark = pytest.mark.model

TEXT = (
    "The capital of France is Paris, and its river is the Seine. Ünïcode: 東京 😀. 1, 2, 3, 4; def f(x): return x\n" * 9
)
MOST_NATS, MEAN_NATS = 0.15, 0.015
"""Those of the parity check (`engines.parity`)."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCppEngine]:
    made = LlamaCppEngine(tmp_path_factory.mktemp("engines"), context_tokens=2048, slots=1)
    yield made
    made.close()


def told(address: Address, tokens: list[int], top: int) -> list[dict[str, Any]]:
    body = {"tokens": tokens, "lora": address.fields["lora"], "top": top}
    url = f"{address.scores_url}/prompt_logprobs"
    answer = httpx2.post(url, json=body, headers=address.headers, timeout=120)
    assert answer.status_code == 200, answer.text
    content: list[dict[str, Any]] = answer.json()["content"]
    return content


def test_scores_are_torchs_for_the_base_and_for_a_tuned_model(
    engine: LlamaCppEngine, base_folder: Path, tmp_path: Path
) -> None:
    adapter = small_models.make_adapter(tmp_path / "adapter", base_folder, spread=0.05)
    address = engine.ensure(ServedModel("tuned", BASE, base_folder, adapter))
    base = Address(address.url, {"lora": [{"id": 0, "scale": 0.0}]}, address.headers, scores_url=address.scores_url)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base_folder / "hf")
    tokens = tokenizer(TEXT)["input_ids"]
    assert len(tokens) > 2 * BATCH_TOKENS
    for where, tuned in ((base, None), (address, adapter)):
        entries = told(where, tokens, 3)
        logprobs_NV = small_models.logprobs(base_folder, tuned, tokens)
        assert [entry["id"] for entry in entries] == [*tokens, None]
        assert entries[0]["logprob"] is None
        wanted = [float(logprobs_NV[place, token]) for place, token in enumerate(tokens[1:])]
        differences = [abs(entry["logprob"] - value) for entry, value in zip(entries[1:-1], wanted, strict=True)]
        assert max(differences) < MOST_NATS
        assert sum(differences) / len(differences) < MEAN_NATS
        for place in (0, BATCH_TOKENS - 1, BATCH_TOKENS, len(tokens) - 1):
            likeliest = entries[place + 1]["top_logprobs"]
            assert len(likeliest) == 3
            assert likeliest[0]["logprob"] == pytest.approx(float(logprobs_NV[place].max()), abs=MOST_NATS)
        pieces = b"".join(bytes(entry["bytes"]) for entry in entries[:-1])
        assert pieces.decode() == TEXT
    engine.release("tuned")


def test_nobody_without_the_engines_key_is_answered(engine: LlamaCppEngine, base_folder: Path) -> None:
    address = engine.ensure(ServedModel(BASE, BASE, base_folder, None))
    for headers in ({}, {"authorization": "Bearer wrong"}):
        answer = httpx2.post(f"{address.scores_url}/prompt_logprobs", json={"tokens": [1], "top": 1}, headers=headers)
        assert answer.status_code == 401


def test_library_of_another_make_is_refused_and_not_called(base_folder: Path) -> None:
    scores = PromptScores(Path(ctypes.CDLL("libc.so.6")._name), base_folder / "base-f16.gguf", [], 1)
    with pytest.raises(Unavailable, match="has no llama_"):
        scores.score([1, 2], {}, 1)


def test_reading_ends_between_two_batches_when_nobody_waits(base_folder: Path) -> None:
    import xllamacpp

    scores = PromptScores(Path(xllamacpp.xllamacpp.__file__), base_folder / "base-f16.gguf", [], 2)
    entries = scores.score([504] * (3 * BATCH_TOKENS), {}, 1, is_wanted=lambda: False)
    assert len(entries) == 1 + BATCH_TOKENS
