"""Decoders of several families over a flat batch: what transformers' own attention computes row by row."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional

import small_models
from equality import Outcome, assert_same, randomise, with_gradients
from flash import install, row
from luthier.data.rendering.renderer import Rendered
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer.model import tuned_model
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.objectives import sft

FAMILIES = ("qwen3", "gemma3", "phi3")
WINDOW = 16
BEGINNING = tuple(range(10, 60))
ROWS = [row(*BEGINNING, 1, 2, 3), row(*BEGINNING, *range(60, 130)), row(7, 8, 9), row(*range(200, 100, -1))]
LONG_ROWS = [row(*(1 + 7 * place % 250 for place in range(600))), row(*BEGINNING)]
"""One of them beyond the length up to which attention is a single product."""


@pytest.fixture(scope="module", params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of the family; Gemma 3 and Phi-3 with layers that see 16 tokens."""
    folder = small_models.make_base(tmp_path_factory.mktemp(request.param), request.param)
    if request.param == "phi3":
        path = folder / "hf" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"sliding_window": WINDOW}))
    return folder


def fresh(base: Path) -> TunedModel:
    """The model in float32 by the modules of transformers, with a random adapter; the same each time."""
    tuned_model.configure_process(1, 0)
    causal = tuned_model.load_base(base, torch.float32)
    targets = small_models.FUSED_TARGETS if causal.config.model_type == "phi3" else small_models.TARGETS
    return randomise(tuned_model.attach_adapter(causal, LoraRecipe(rank=4, alpha=8, targets=targets), 0, None))


def textbook(base: Path, rows: list[Rendered]) -> Outcome:
    """Each row alone through transformers' own masks and attention."""
    tuned = fresh(base)
    tuned.causal.set_attn_implementation("eager")

    def compute() -> float:
        total = torch.tensor(0.0)
        for item in rows:
            logits_TV = tuned.causal(input_ids=torch.tensor([item.token_ids]), use_cache=False).logits[0, :-1]
            total = total + functional.cross_entropy(logits_TV, torch.tensor(item.token_ids[1:]), reduction="sum")
        loss = total / sum(len(item.token_ids) - 1 for item in rows)
        loss.backward()
        return float(loss.detach())

    return with_gradients(tuned, compute)


@pytest.mark.parametrize("varlen", [False, True], ids=["segments", "varlen"])
def test_flat_batch_of_each_family_has_the_loss_and_gradients_of_transformers(base: Path, varlen: bool) -> None:
    install()
    tuned = dataclasses.replace(fresh(base), varlen=varlen)
    flat = with_gradients(tuned, lambda: sft.gradients(tuned, ROWS, 10_000).loss)
    assert len(flat[1]) == len(tuned.parameters)
    assert_same(flat, textbook(base, ROWS))


def test_row_of_many_windows_has_the_loss_and_gradients_of_transformers(base: Path) -> None:
    tuned = fresh(base)
    assert_same(with_gradients(tuned, lambda: sft.gradients(tuned, LONG_ROWS, 10_000).loss), textbook(base, LONG_ROWS))


def test_gemmas_scale_of_embeddings_is_not_rounded(tmp_path: Path) -> None:
    causal = tuned_model.load_base(small_models.make_base(tmp_path, "gemma3", hidden_size=96), torch.bfloat16)
    embedding = causal.get_input_embeddings()
    assert embedding.embed_scale.dtype == torch.float32
    assert float(embedding.embed_scale) == pytest.approx(96**0.5, rel=1e-6)
