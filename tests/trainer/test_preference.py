"""Preference pairs: the textbook's loss and gradients, a reference that stays, and runs that learn to prefer."""

import csv
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

import rows
from equality import assert_same, compiled, randomise, sequence, with_gradients
from luthier.core.errors import LuthierError
from luthier.core.states import Method
from luthier.data.rendering.renderer import Rendered
from luthier.run_directory.run_directory import RESULT_COLUMNS, REWARD_COLUMNS
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer import loop
from luthier.trainer.model import tuned_model
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.objectives import reference_log_probs
from luthier.trainer.objectives.dpo import Pair, PreferenceObjective
from luthier.trainer.run.event_log import EventLog
from runs import PREFERENCES, TARGETS, MakeRun, contents, events
from training import train

BETA = 0.3
RECIPE = LoraRecipe(rank=4, alpha=8, targets=TARGETS)
ONE_OR_TWO = st.lists(sequence(), min_size=1, max_size=2).map(tuple)
PAIRS = st.lists(st.builds(Pair, ONE_OR_TWO, ONE_OR_TWO), min_size=1, max_size=4).map(tuple)


@pytest.fixture(scope="module", params=["fused", "modules"])
def tuned(base: Path, request: pytest.FixtureRequest) -> TunedModel:
    """The tiny model in float32 with a new adapter, by the fused decoder and by the modules of transformers."""
    tuned_model.configure_process(1, 0)
    kernels = compiled() if request.param == "fused" else None
    return tuned_model.attach_adapter(tuned_model.load_base(base, torch.float32), RECIPE, 0, None, kernels)


@pytest.fixture(scope="module")
def plain(base: Path) -> Any:
    """The same model as transformers and PEFT have it, its attention included."""
    causal = transformers.AutoModelForCausalLM.from_pretrained(
        base / "hf", dtype=torch.float32, attn_implementation="eager"
    )
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        # PEFT still asks the model by a name that transformers is retiring.
        warnings.simplefilter("ignore", FutureWarning)
        return peft.get_peft_model(causal, config)


def log_probability(causal: Any, sequences: tuple[Rendered, ...]) -> Tensor:
    """Each sequence alone, from all of its logits."""
    total = torch.tensor(0.0)
    for one in sequences:
        ids = torch.tensor([one.token_ids])
        logits_TV = causal(input_ids=ids, use_cache=False).logits[0, :-1]
        nats_T = functional.cross_entropy(logits_TV, ids[0, 1:], reduction="none")
        total = total - (nats_T * torch.tensor(one.loss_weights[1:])).sum()
    return total


def textbook(plain: Any, pairs: tuple[Pair, ...]) -> float:
    """DPO as its paper writes it: the base without its adapter is the reference."""
    losses = []
    for pair in pairs:
        gains = []
        for sequences in (pair.chosen, pair.rejected):
            with torch.no_grad(), plain.disable_adapter():
                before = log_probability(plain, sequences)
            gains.append(log_probability(plain, sequences) - before)
        losses.append(-functional.logsigmoid(BETA * (gains[0] - gains[1])))
    loss = torch.stack(losses).mean()
    loss.backward()
    return float(loss.detach())


def fresh(tuned: TunedModel) -> None:
    """The adapter as a new one is: without effect."""
    for name, parameter in tuned.parameters.items():
        if "lora_B" in name:
            parameter.data.zero_()


def preferences(tuned: TunedModel, pairs: tuple[Pair, ...], folder: Path) -> PreferenceObjective:
    """The pairs with the new adapter as their reference; afterwards the adapter is a random one."""
    fresh(tuned)
    path = folder / "reference.safetensors"
    path.unlink(missing_ok=True)
    reference_P2 = reference_log_probs.compute(tuned, pairs, path, "key", lambda: False)
    assert reference_P2 is not None
    randomise(tuned)
    return PreferenceObjective(pairs, reference_P2, BETA)


@settings(deadline=None, max_examples=20)
@given(PAIRS)
def test_pairs_in_one_row_have_the_loss_and_gradients_of_plain_peft(
    tuned: TunedModel, plain: Any, tmp_path_factory: pytest.TempPathFactory, pairs: tuple[Pair, ...]
) -> None:
    learned = preferences(tuned, pairs, tmp_path_factory.getbasetemp())
    indexes = range(len(pairs))
    ours = with_gradients(tuned, lambda: learned.gradients(tuned, indexes, 10_000).loss)
    theirs = {
        name.replace(".default.", "."): parameter for name, parameter in plain.named_parameters() if "lora" in name
    }
    assert theirs.keys() == tuned.parameters.keys()
    for name, parameter in theirs.items():
        parameter.data.copy_(tuned.parameters[name].data)
        parameter.grad = None
    loss = textbook(plain, pairs)
    assert_same(ours, (loss, {name: parameter.grad for name, parameter in theirs.items()}))
    assert learned.evaluate(tuned, indexes).loss == pytest.approx(loss, rel=1e-5)


@settings(deadline=None, max_examples=20)
@given(PAIRS, st.integers(1, 60))
def test_accumulation_in_groups_of_any_size_changes_nothing(
    tuned: TunedModel, tmp_path_factory: pytest.TempPathFactory, pairs: tuple[Pair, ...], budget: int
) -> None:
    learned = preferences(tuned, pairs, tmp_path_factory.getbasetemp())
    indexes = range(len(pairs))
    whole = with_gradients(tuned, lambda: learned.gradients(tuned, indexes, 10_000).loss)
    grouped = with_gradients(tuned, lambda: learned.gradients(tuned, indexes, budget).loss)
    assert_same(whole, grouped)
    one, other = (learned.gradients(tuned, indexes, size).on_host().rewards for size in (10_000, budget))
    assert one.model_dump() == pytest.approx(other.model_dump(), rel=1e-4, abs=1e-5)


def test_rewards_say_which_output_became_likelier_and_by_how_much(tuned: TunedModel) -> None:
    pairs = tuple(
        Pair((Rendered((7, 8, 9, number), (0, 0, 1, 1), 2),), (Rendered((7, 8, 30), (0, 0, 1), 2),))
        for number in range(3)
    )
    fresh(tuned)
    probabilities = [
        [float(log_probability(tuned.causal, side).detach()) for side in (pair.chosen, pair.rejected)] for pair in pairs
    ]
    less = torch.tensor(probabilities, dtype=torch.float64) - torch.tensor([[2.0, 1.0], [2.0, 3.0], [-1.0, 0.5]])
    found = PreferenceObjective(pairs, less, BETA).evaluate(tuned, [0, 1, 2])
    assert found.rewards.accuracy == pytest.approx(1 / 3)
    assert found.rewards.chosen == pytest.approx(BETA * (2 + 2 - 1) / 3, rel=1e-4)
    assert found.rewards.rejected == pytest.approx(BETA * (1 + 3 + 0.5) / 3, rel=1e-4)
    assert found.rewards.margin == pytest.approx(found.rewards.chosen - found.rewards.rejected)
    margins = BETA * torch.tensor([1.0, -1.0, -1.5])
    assert found.loss == pytest.approx(float(functional.softplus(-margins).mean()), rel=1e-4)


def test_reference_stopped_midway_goes_on_to_the_same_bits(tuned: TunedModel, tmp_path: Path) -> None:
    long = tuple(range(300))
    pairs = tuple(
        Pair(
            (Rendered((*long, *long[::-1], number, 1), (0.0,) * 601 + (1.0,), 601),),
            (Rendered((*long[::-1], *long, number, 2), (0.0,) * 601 + (1.0,), 601),),
        )
        for number in range(8)
    )
    fresh(tuned)
    calm = reference_log_probs.compute(tuned, pairs, tmp_path / "calm", "key", lambda: False)
    assert calm is not None
    assert reference_log_probs.compute(tuned, pairs, tmp_path / "rough", "key", lambda: True) is None
    randomise(tuned)  # what is known is read, whatever the model is by now
    half = reference_log_probs.compute(tuned, pairs, tmp_path / "rough", "key", lambda: False)
    assert half is not None
    known = (half == calm).all(dim=1)
    assert known.any()
    assert not known.all()
    fresh(tuned)
    (tmp_path / "rough").unlink()
    assert reference_log_probs.compute(tuned, pairs, tmp_path / "rough", "key", lambda: True) is None
    assert torch.equal(reference_log_probs.compute(tuned, pairs, tmp_path / "rough", "key", lambda: False), calm)
    randomise(tuned)
    assert torch.equal(reference_log_probs.compute(tuned, pairs, tmp_path / "rough", "key", lambda: False), calm)
    assert not torch.equal(reference_log_probs.compute(tuned, pairs, tmp_path / "rough", "other", lambda: False), calm)


def test_run_learns_to_prefer_and_writes_its_rewards(make_run: MakeRun) -> None:
    run = make_run(valid=rows.pairs(4), **PREFERENCES, n_epochs=5)
    assert loop.train(run, run.read_spec(), EventLog(run), lambda: False) is not None
    with run.results.open() as stream:
        told = list(csv.DictReader(stream))
    assert tuple(told[0]) == RESULT_COLUMNS + REWARD_COLUMNS
    assert float(told[0]["train_loss"]) == pytest.approx(0.6931, abs=1e-3)  # nothing learned yet: log 2
    assert float(told[0]["train_reward_margin"]) == pytest.approx(0, abs=1e-2)
    assert float(told[-1]["train_loss"]) < 0.3
    assert float(told[-1]["full_valid_reward_accuracy"]) == 1.0
    assert float(told[-1]["full_valid_reward_margin"]) > 1
    last = [event for event in events(run) if event["kind"] == "checkpoint"][-1]
    assert last["metrics"]["full_valid_reward_margin"] == float(told[-1]["full_valid_reward_margin"])
    card = (run.checkpoints / last["folder"] / "README.md").read_text()
    for words in ("- dpo", "fine-tuned on preference pairs", "with beta 0.1", "validation reward margin"):
        assert words in card
    say = [event["message"] for event in events(run) if event["kind"] == "message"]
    assert any("beta 0.1" in text for text in say)


def test_run_that_goes_on_from_a_model_has_that_model_as_its_reference(make_run: MakeRun) -> None:
    first = make_run("first", n_epochs=2)
    train(first)
    run = make_run("second", valid=rows.pairs(4), **PREFERENCES, continued=True)
    run.parent.mkdir()
    for path in (first.checkpoints / "step-000008").iterdir():
        (run.parent / path.name).write_bytes(path.read_bytes())
    train(run)
    steps = [event for event in events(run) if event["kind"] == "metrics"]
    assert steps[0]["train_loss"] == pytest.approx(0.6931, abs=1e-3)
    assert steps[-1]["full_valid_rewards"]["margin"] > steps[3]["full_valid_rewards"]["margin"] > 0


def test_run_stopped_while_the_reference_is_made_goes_on_to_the_same_bytes(make_run: MakeRun) -> None:
    asked = {"rows": rows.pairs(150), "method": Method.DPO, "beta": 0.1, "n_epochs": 1, "batch_size": 50}
    calm, rough = (make_run(name, **asked) for name in ("calm", "rough"))
    train(calm)
    assert loop.train(rough, rough.read_spec(), EventLog(rough), lambda: True) is None
    assert not any(event["kind"] == "metrics" for event in events(rough))
    assert not rough.under_way.exists(), "the next attempt would take this one for a crash"
    train(rough)
    assert contents(rough) == contents(calm)


def test_row_whose_outputs_become_the_same_tokens_is_refused(make_run: MakeRun) -> None:
    same = rows.pairs(9) + (
        b'{"input": {"messages": [{"role": "user", "content": "Hi"}]}, "preferred_output": [{"role": "assistant", '
        b'"content": "Yes"}], "non_preferred_output": [{"role": "assistant", "content": "Yes", "name": "ann"}]}'
    )
    with pytest.raises(LuthierError, match="Line 10") as caught:
        train(make_run(rows=same, method=Method.DPO, beta=0.1))
    assert caught.value.code == "equal_outputs"
