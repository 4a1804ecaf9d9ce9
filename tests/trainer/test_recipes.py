"""Every setting of a recipe: what it changes, and that a run which was cut ends in the same bytes."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch

from luthier.core.training.recipe import Schedule
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Succeeded
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer import loop
from luthier.trainer.model import optimizer_setup, tuned_model
from luthier.trainer.run.event_log import EventLog
from runs import TARGETS, MakeRun, bare_spec, contents

SETTINGS: dict[str, dict[str, Any]] = {
    "dropout": {"lora": LoraRecipe(rank=4, alpha=8, dropout=0.2, targets=TARGETS)},
    "few targets": {"lora": LoraRecipe(rank=2, alpha=3, targets=("q_proj", "down_proj"))},
    "decay": {"weight_decay": 0.5},
    "decay of all weights": {"lora": None, "weight_decay": 0.5, "learning_rate": 1e-3},
    "cosine": {"schedule": Schedule.COSINE},
    "constant": {"schedule": Schedule.CONSTANT, "warmup": 0},
    "warmup": {"warmup": 0.5},
}


def trained(run: RunDirectory, stop: Callable[[], bool] = lambda: False) -> Succeeded | None:
    return loop.train(run, run.read_spec(), EventLog(run), stop)


def stopping_after(steps: int) -> Callable[[], bool]:
    """Asked once before the first step, then after each."""
    left = iter([False] * steps)
    return lambda: next(left, True)


@pytest.mark.parametrize("name", SETTINGS)
def test_setting_changes_the_model_and_a_run_stopped_twice_ends_in_the_bytes_of_a_calm_one(
    make_run: MakeRun, name: str
) -> None:
    usual, calm, stopped = make_run("usual"), make_run("calm", **SETTINGS[name]), make_run("stopped", **SETTINGS[name])
    assert trained(usual) is not None
    assert trained(calm) is not None
    assert trained(stopped, stopping_after(3)) is None
    assert trained(stopped, stopping_after(5)) is None
    assert trained(stopped) is not None
    assert contents(stopped) == contents(calm)
    assert calm.results.read_bytes() != usual.results.read_bytes()


@pytest.mark.parametrize("name", SETTINGS)
def test_spec_tells_settings_and_is_as_ever_without_them(make_run: MakeRun, name: str) -> None:
    told = make_run(**SETTINGS[name]).spec.read_text()
    for field in ("schedule", "warmup", "weight_decay"):
        assert (f'"{field}"' in told) is (field in SETTINGS[name])


def test_cosine_falls_slowly_at_first_and_to_a_tenth_and_constant_stays() -> None:
    def rates(**settings: Any) -> list[float]:
        spec = bare_spec(learning_rate=2.0, **settings)
        return [optimizer_setup.rate(step, 40, spec) for step in range(1, 41)]

    linear, cosine = rates(), rates(schedule=Schedule.COSINE)
    assert cosine[-1] == pytest.approx(0.2)
    assert all(one >= other for one, other in pairwise(cosine[3:]))
    assert cosine[12] > linear[12]
    assert cosine[36] < linear[36]
    assert rates(schedule=Schedule.CONSTANT, warmup=5.0) == [0.4, 0.8, 1.2, 1.6, *[2.0] * 36]
    assert rates(warmup=0.0)[0] > 1.9
    assert rates(warmup=0.25)[9] == 2.0 > rates(warmup=0.25)[8]
    assert rates(warmup=400.0)[-1] == 2.0, "a warm-up longer than the run ends with it"


def test_decay_is_for_matrices_alone() -> None:
    spec = bare_spec(learning_rate=0.1, weight_decay=0.5)
    matrix, gain = torch.ones(2, 2, requires_grad=True), torch.ones(2, requires_grad=True)
    made = optimizer_setup.optimizer([matrix, gain], spec)
    for tensor in (matrix, gain):
        tensor.grad = torch.zeros_like(tensor)
    made.step()
    assert matrix.tolist() == [[pytest.approx(0.95)] * 2] * 2
    assert gain.tolist() == [1, 1]


def test_run_that_goes_on_drops_out_as_it_says_and_not_as_its_parent_did(make_run: MakeRun) -> None:
    first = make_run("first", **SETTINGS["dropout"])
    assert trained(first) is not None
    last = sorted(first.checkpoints.iterdir())[-1]
    base = first.read_spec().base_folder
    plain, wet = (LoraRecipe(rank=4, alpha=8, dropout=share, targets=TARGETS) for share in (0.0, 0.3))
    for recipe in (plain, wet):
        tuned = tuned_model.attach_adapter(tuned_model.load_base(base, torch.float32), recipe, 0, last)
        assert tuned.adapter_config is not None
        assert tuned.adapter_config.lora_dropout == recipe.dropout
        assert tuned.causal.training is (recipe.dropout > 0)


def test_dropout_takes_the_modules_path_and_plain_adapters_the_fused_one(make_run: MakeRun) -> None:
    from equality import compiled

    base = make_run().read_spec().base_folder
    for share, is_fused in ((0.0, True), (0.1, False)):
        recipe = LoraRecipe(rank=2, alpha=4, dropout=share, targets=("q_proj", "down_proj"))
        tuned = tuned_model.attach_adapter(tuned_model.load_base(base, torch.float32), recipe, 0, None, compiled())
        assert (tuned.fused is not None) is is_fused


def test_head_is_no_target(make_run: MakeRun) -> None:
    from luthier.core.errors import InvalidRequest

    base = make_run().read_spec().base_folder
    recipe = LoraRecipe(rank=2, alpha=4, targets=("q_proj", "lm_head"))
    with pytest.raises(InvalidRequest, match="lm_head"):
        tuned_model.attach_adapter(tuned_model.load_base(base, torch.float32), recipe, 0, None)
