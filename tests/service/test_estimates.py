"""What a run will come to, told before it begins: steps, tokens, time, memory and price."""

import json
import shutil
from pathlib import Path

import pytest

import rows
import tiny
from fakes import BASE
from luthier import catalog, rates
from luthier.core import hyperparameters
from luthier.core.hyperparameters import Hyperparameters
from luthier.rates import Rate
from luthier.service import checks, estimates
from luthier.service.checks import Checked, Rules
from luthier.service.estimates import RunEstimate
from luthier.service.pricing import Price
from luthier.trainer import batches, fused


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    """The embedded base model as it would lie here: its configuration, and weights of some size."""
    folder = tmp_path / "base"
    tiny.tokenizer_folder(folder / "hf")
    shape = {"model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536}
    shape |= {"num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152}
    (folder / "hf" / "config.json").write_text(json.dumps(shape))
    with (folder / "hf" / "model.safetensors").open("wb") as stream:
        stream.truncate(269_000_000)
    return Rules(base=catalog.load().find(BASE), base_folder=folder)


def estimate(rules: Rules, folder: Path, price: Price | None = None, n_epochs: int | None = None) -> RunEstimate:
    checked = checks.check_training([rows.good(20)], rules)
    found = estimates.estimate(checked, rules, Hyperparameters(n_epochs=n_epochs), folder, price)
    assert found is not None
    return found


def test_steps_and_tokens_follow_from_the_hyperparameters(rules: Rules, tmp_path: Path) -> None:
    found = estimate(rules, tmp_path)
    tokens = checks.check_training([rows.good(20)], rules).tokens
    assert tokens is not None
    chosen = hyperparameters.resolve(Hyperparameters(), 20)
    assert (found.batch_size, found.n_epochs) == (chosen.batch_size, chosen.n_epochs)
    assert found.n_steps == chosen.n_epochs * 20 // chosen.batch_size
    assert found.trained_tokens == chosen.n_epochs * tokens.tokens.total
    assert found.supervised_tokens == chosen.n_epochs * tokens.supervised.total
    assert estimate(rules, tmp_path, n_epochs=7).n_steps == 70


def test_time_goes_by_an_earlier_run_and_else_by_the_processor(rules: Rules, tmp_path: Path) -> None:
    assert estimate(rules, tmp_path).basis in ("a guess by the processor", None)
    rates.note(tmp_path, BASE, Rate(tokens=10_000, seconds=20.0, peak_memory_bytes=1))
    found = estimate(rules, tmp_path)
    assert found.basis == "by an earlier run"
    assert found.seconds == pytest.approx(found.trained_tokens / 500, abs=0.1)


def test_memory_counts_weights_activations_and_the_process(rules: Rules, tmp_path: Path) -> None:
    found = estimate(rules, tmp_path)
    assert found.peak_memory_bytes is not None
    assert 1.2e9 < found.peak_memory_bytes < 2.2e9


def test_price_is_that_of_the_trained_tokens(rules: Rules, tmp_path: Path) -> None:
    found = estimate(rules, tmp_path, Price(3.0, "EUR"))
    assert (found.price, found.currency) == (round(found.trained_tokens * 3 / 1e6, 6), "EUR")
    words = estimates.in_words(found)
    assert f"{found.trained_tokens:,} tokens" in words
    assert words.endswith("EUR.")
    assert (estimate(rules, tmp_path).price, estimate(rules, tmp_path).currency) == (None, None)


def test_nothing_is_estimated_for_a_file_with_errors_or_without_counted_tokens(rules: Rules, tmp_path: Path) -> None:
    def told(checked: Checked) -> RunEstimate | None:
        return estimates.estimate(checked, rules, Hyperparameters(), tmp_path, None)

    assert told(checks.check_training([rows.good(9)], rules)) is None
    assert told(checks.check_training([rows.good()], Rules())) is None


def test_short_run_does_not_replace_a_long_one(tmp_path: Path) -> None:
    long, short, later = Rate(100_000, 50.0, 1), Rate(9_000, 90.0, 2), Rate(10_000, 4.0, 3)
    for rate in (long, short):
        rates.note(tmp_path, BASE, rate)
    assert rates.read(tmp_path) == {BASE: long}
    rates.note(tmp_path, BASE, later)
    rates.note(tmp_path, "other", short)
    assert rates.read(tmp_path) == {BASE: later, "other": short}
    (tmp_path / rates.FILE).write_text("[1]")
    assert rates.read(tmp_path) == {}
    shutil.rmtree(tmp_path)
    assert rates.read(tmp_path) == {}


def test_families_and_budget_are_the_trainers() -> None:
    assert estimates.FUSED_FAMILIES == fused.FAMILIES
    assert estimates.TOKENS_OF_A_PASS == batches.TOKEN_BUDGET
