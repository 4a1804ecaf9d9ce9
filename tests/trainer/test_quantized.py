"""Frozen weights in few bits: the numbers that are stored are those that are trained on and served."""

from contextlib import closing
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny
from equality import assert_same, randomise, with_sft_gradients
from flash import row
from luthier.core.engine_ports import ServedModel
from luthier.core.errors import InvalidRequest
from luthier.engines.gguf import export
from luthier.engines.llamacpp.engine import LlamaCppEngine
from luthier.engines.parity import check_parity
from luthier.run_directory.train_spec import LoraRecipe, Quantization
from luthier.trainer import loop
from luthier.trainer.layers import quantized_weights
from luthier.trainer.layers.quantized_weights import PackedLinear
from luthier.trainer.model import prepare, tuned_model
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.run.event_log import EventLog
from runs import TARGETS, MakeRun, contents

KINDS: tuple[Quantization, ...] = ("8bit", "4bit")
ROWS = [row(*range(7, 30), 1, 2), row(*range(7, 30), 5, 6, 7, 8), row(40, 41, 42)]


def weight(spread: float = 0.05, seed: int = 0) -> Tensor:
    return torch.randn(256, 128, generator=torch.Generator().manual_seed(seed)) * spread


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Quantization:
    found: Quantization = request.param
    return found


@pytest.fixture(scope="module")
def few_bits(kind: Quantization, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base, prepared for training on so few bits."""
    folder = tmp_path_factory.mktemp("few")
    source = tiny.base_folder(folder / "source") / "hf"
    assert prepare.main([str(source), str(folder / "base"), "--name", tiny.NAME, "--quantization", kind]) == 0
    return folder / "base"


def test_rounding_twice_is_rounding_once(kind: Quantization) -> None:
    hard = torch.cat([weight(), weight(3.0, 1), torch.zeros(1, 128), weight(1e-6, 2), torch.full((1, 128), -0.3)])
    once = quantized_weights.rounded(hard, kind)
    assert once.dtype == torch.bfloat16
    assert torch.equal(quantized_weights.rounded(once, kind), once)


@pytest.mark.parametrize(("few", "most"), [("8bit", 0.012), ("4bit", 0.10)])
def test_rounding_moves_normal_weights_little(few: Quantization, most: float) -> None:
    """Root mean square of the error, in units of the weights' own spread."""
    error = (quantized_weights.rounded(weight(), few).float() - weight()).square().mean().sqrt() / 0.05
    assert float(error) < most


def test_values_of_four_bits_are_those_of_the_paper() -> None:
    made = quantized_weights.normal_values()
    assert made[0] == -1.0
    assert made[7] == 0.0
    assert made[15] == 1.0
    assert made[8:11] == pytest.approx([0.0796, 0.1609, 0.2461], abs=1e-4)
    assert made[1:3] == pytest.approx([-0.6962, -0.5251], abs=1e-4)


def test_packed_weight_is_the_stored_one_in_a_half_or_a_quarter_of_the_bytes(kind: Quantization) -> None:
    linear = torch.nn.Linear(128, 256, bias=False, dtype=torch.bfloat16)
    linear.weight.data = quantized_weights.rounded(weight(), kind)
    packed = PackedLinear(linear, kind)
    assert torch.equal(packed.weight_in(torch.bfloat16), linear.weight)
    assert torch.equal(packed.weight_in(torch.float32), linear.weight.float())
    size = sum(buffer.nbytes for buffer in packed.buffers())
    assert size / linear.weight.nbytes < (0.51 if kind == "8bit" else 0.27)


@pytest.mark.parametrize("targets", [TARGETS, ("q_proj",)], ids=["all", "one"])
def test_packed_model_has_the_loss_and_gradients_of_the_plain_one(
    kind: Quantization, few_bits: Path, targets: tuple[str, ...]
) -> None:
    tuned_model.configure_process(1, 0)

    def fresh(few: Quantization | None) -> TunedModel:
        recipe = LoraRecipe(rank=4, alpha=8, targets=targets, quantization=few)
        return randomise(tuned_model.attach_adapter(tuned_model.load_base(few_bits, torch.float32), recipe, 0, None))

    plain, packed = fresh(None), fresh(kind)
    layers = [module for module in packed.causal.modules() if isinstance(module, PackedLinear)]
    assert len(layers) == 14
    found = [with_sft_gradients(one, ROWS, 10_000) for one in (plain, packed)]
    assert_same(found[0], found[1])
    assert len(found[1][1]) == 2 * 2 * len(targets)


def test_tuned_on_few_bits_is_served_as_trained(
    kind: Quantization, few_bits: Path, make_run: MakeRun, tmp_path: Path
) -> None:
    lora = LoraRecipe(rank=4, alpha=8, targets=TARGETS, quantization=kind)
    one, two = (make_run(name, base_folder=few_bits, lora=lora, n_epochs=2) for name in ("one", "two"))
    for run in (one, two):
        assert loop.train(run, run.read_spec(), EventLog(run), lambda: False) is not None
    assert contents(one) == contents(two)
    folder = one.checkpoints / "step-000008"
    export.export_base(few_bits)
    with closing(LlamaCppEngine(tmp_path / "engines", context_tokens=1024, slots=1, threads=1)) as engine:
        report = check_parity(engine.ensure(ServedModel("tuned", tiny.NAME, few_bits, folder)), folder)
    assert report.agrees, report.reason


def test_base_that_was_not_prepared_for_it_is_refused_with_what_to_do(
    kind: Quantization, make_run: MakeRun, base: Path
) -> None:
    run = make_run(base_folder=base, lora=LoraRecipe(rank=4, alpha=8, targets=TARGETS, quantization=kind))
    with pytest.raises(InvalidRequest, match="luthier models pull") as caught:
        loop.train(run, run.read_spec(), EventLog(run), lambda: False)
    assert caught.value.code == "base_not_quantized"
