"""The estimate of a run before it starts: steps, tokens, time, memory and price."""

import json
import shutil
from pathlib import Path

import pytest

import rows
import tiny
from fakes import BASE
from luthier import catalog
from luthier.core.training import hyperparameters
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.core.training.pricing import Price
from luthier.service.files import data_check, throughput_history, training_estimate
from luthier.service.files.data_check import Checked, Rules
from luthier.service.files.throughput_history import RunRecord
from luthier.service.files.training_estimate import RunEstimate


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
    checked = data_check.check_training([rows.good(20)], rules)
    found = training_estimate.estimate(checked, rules, Hyperparameters(n_epochs=n_epochs), folder, price)
    assert found is not None
    return found


def test_steps_and_tokens_follow_from_the_hyperparameters(rules: Rules, tmp_path: Path) -> None:
    found = estimate(rules, tmp_path)
    tokens = data_check.check_training([rows.good(20)], rules).tokens
    assert tokens is not None
    chosen = hyperparameters.resolve(Hyperparameters(), 20)
    assert (found.batch_size, found.n_epochs) == (chosen.batch_size, chosen.n_epochs)
    assert found.n_steps == chosen.n_epochs * 20 // chosen.batch_size
    assert found.trained_tokens == chosen.n_epochs * tokens.tokens.total
    assert found.supervised_tokens == chosen.n_epochs * tokens.supervised.total
    assert estimate(rules, tmp_path, n_epochs=7).n_steps == 70


def test_time_is_estimated_by_earlier_runs_or_else_by_the_processor(rules: Rules, tmp_path: Path) -> None:
    assert estimate(rules, tmp_path).basis in ("a guess by the processor", None)
    usual = {"tokens": 1_000, "steps": 10, "epochs": 2, "peak_memory_bytes": 1}
    for step_seconds, seconds in ((2.0, 8.0), (1.0, 3.0), (50.0, 90.0)):
        throughput_history.add_record(
            tmp_path, BASE, RunRecord(**usual, step_seconds=step_seconds, seconds=seconds, start_seconds=5.0)
        )
        throughput_history.add_record(tmp_path, f"{BASE} full", RunRecord(**usual, step_seconds=1.0, seconds=999.0))
    found = estimate(rules, tmp_path, n_epochs=4)
    assert found.basis == "by 3 earlier runs"
    # The median of each part: the start, 2 ms a token, three seconds an epoch beside its steps.
    assert found.seconds == pytest.approx(5 + found.trained_tokens * 0.002 + 4 * 3, abs=0.1)


def test_pace_is_that_of_runs_with_steps_of_that_size(tmp_path: Path) -> None:
    small, large = (
        RunRecord(tokens=size * 10, seconds=10.0, peak_memory_bytes=1, steps=10, epochs=1, step_seconds=10.0)
        for size in (100, 10_000)
    )
    for size, a_token in ((150, 0.01), (9_000, 0.0001)):
        pace = throughput_history.pace([small, large], size)
        assert pace is not None
        assert (pace.runs, pace.per_token) == (1, a_token)
    both = throughput_history.pace([small, large], 1_000_000)
    assert both is not None
    assert both.runs == 2
    assert throughput_history.pace([RunRecord(100, 5.0, 1)], 10) is None, "of an older version, without its parts"


def test_guess_counts_start_small_steps_and_probes(rules: Rules, tmp_path: Path) -> None:
    found = estimate(rules, tmp_path)
    if found.seconds is None:
        pytest.skip("a machine with a GPU gets no guess")
    assert found.seconds > 8 + found.n_steps * 30 * 0.008


def test_memory_counts_weights_activations_and_the_process(rules: Rules, tmp_path: Path) -> None:
    found = estimate(rules, tmp_path)
    assert found.peak_memory_bytes is not None
    assert 1.2e9 < found.peak_memory_bytes < 2.2e9


def test_price_is_that_of_the_trained_tokens(rules: Rules, tmp_path: Path) -> None:
    found = estimate(rules, tmp_path, Price(3.0, "EUR"))
    assert (found.price, found.currency) == (round(found.trained_tokens * 3 / 1e6, 6), "EUR")
    words = training_estimate.in_words(found)
    assert f"{found.trained_tokens:,} tokens" in words
    assert words.endswith("EUR.")
    assert (estimate(rules, tmp_path).price, estimate(rules, tmp_path).currency) == (None, None)


def test_nothing_is_estimated_for_a_file_with_errors_or_without_counted_tokens(rules: Rules, tmp_path: Path) -> None:
    def told(checked: Checked) -> RunEstimate | None:
        return training_estimate.estimate(checked, rules, Hyperparameters(), tmp_path, None)

    assert told(data_check.check_training([rows.good(9)], rules)) is None
    assert told(data_check.check_training([rows.good()], Rules())) is None


def test_last_runs_of_each_kind_are_recorded_and_older_files_are_read(tmp_path: Path) -> None:
    told = [RunRecord(tokens, 1.0, 1) for tokens in range(1, 13)]
    (tmp_path / throughput_history.FILE).write_text('{"other": {"tokens": 7, "seconds": 1.0, "peak_memory_bytes": 1}}')
    for rate in told:
        throughput_history.add_record(tmp_path, BASE, rate)
    throughput_history.add_record(tmp_path, BASE, RunRecord(1, 0.0, 1))
    assert throughput_history.read_records(tmp_path) == {
        "other": [RunRecord(7, 1.0, 1)],
        BASE: told[-throughput_history.RECENT :],
    }
    (tmp_path / throughput_history.FILE).write_text("[1]")
    assert throughput_history.read_records(tmp_path) == {}
    shutil.rmtree(tmp_path)
    assert throughput_history.read_records(tmp_path) == {}
