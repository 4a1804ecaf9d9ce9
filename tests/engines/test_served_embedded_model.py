"""The embedded base model itself: served = prepared, to the token and to the tolerance of log-probabilities."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from transformers import AutoTokenizer

from engines import small
from engines.test_export import HARD_TEXTS
from luthier.core.ports import ServedModel
from luthier.engines.llamacpp import LlamaCppEngine
from luthier.engines.parity import check_parity

NAME = "smollm2-135m-instruct"
FOLDER = Path(os.environ.get("LUTHIER_MODELS_DIR", "/nowhere")) / NAME

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(
        not (FOLDER / "base-f16.gguf").exists(),
        reason=f"{NAME} is not in LUTHIER_MODELS_DIR; `make model` brings it",
    ),
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCppEngine]:
    engine = LlamaCppEngine(tmp_path_factory.mktemp("engines"), context_tokens=4096, slots=2)
    yield engine
    engine.close()


def test_embedded_base_is_served_as_prepared(engine: LlamaCppEngine):
    address = engine.ensure(ServedModel(NAME, NAME, FOLDER, None))
    report = check_parity(address, FOLDER)
    assert report.agrees, report.reason
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "hf")
    for text in HARD_TEXTS:
        tokens = httpx2.post(
            address.url.removesuffix("/v1") + "/tokenize",
            json={"content": text, "parse_special": True},
            headers=dict(address.headers),
        ).json()["tokens"]
        assert tokens == tokenizer(text, add_special_tokens=False).input_ids, text


def test_adapter_on_the_embedded_base_is_served_as_computed_by_torch(engine: LlamaCppEngine, tmp_path: Path):
    # B of this size moves the first answers by about a nat, as a few epochs of training do.
    adapter = small.make_adapter(tmp_path / "adapter", FOLDER, spread=0.03)
    small.write_probes(adapter, FOLDER, adapter)
    address = engine.ensure(ServedModel("tuned", NAME, FOLDER, adapter))
    report = check_parity(address, adapter)
    assert report.agrees, report.reason
    assert not check_parity(engine.ensure(ServedModel(NAME, NAME, FOLDER, None)), adapter).agrees
