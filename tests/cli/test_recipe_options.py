"""The options of a recipe on the command line and in a --config file, into spec, model and card."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import rows
import tiny
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.train_spec import TrainSpec

Command = Callable[..., Result]
TRAIN = ("train", "--model", tiny.NAME, "--data", "rows.jsonl", "--out", "out", "--seed", "3")


@pytest.fixture(autouse=True)
def data(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(rows.good())


def spec_of(done: Result, folder: Path) -> TrainSpec:
    assert done.exit_code == 0, done.output
    return RunDirectory(folder).read_spec()


def test_options_reach_spec_adapter_config_and_card(alone: Command, tmp_path: Path) -> None:
    options = ("--learning-rate", "3e-3", "--lora-rank", "2", "--lora-targets", "q_proj,down_proj", "--epochs", "60")
    more = ("--lora-dropout", "0.1", "--warmup", "0.2", "--schedule", "cosine", "--weight-decay", "0.05")
    spec = spec_of(alone(*TRAIN, *options, *more, "--max-tokens", "200", "--batch-size", "10"), tmp_path / "out")
    assert spec.lora is not None
    assert (spec.lora.rank, spec.lora.alpha, spec.lora.dropout) == (2, 4, 0.1)
    assert spec.lora.targets == ("q_proj", "down_proj")
    assert (spec.learning_rate, spec.n_epochs, spec.context_tokens) == (3e-3, 60, 200)
    assert (spec.schedule, spec.warmup, spec.weight_decay) == ("cosine", 0.2, 0.05)
    last = sorted((tmp_path / "out" / "checkpoints").iterdir())[-1]
    config = json.loads((last / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (2, 4, 0.1)
    assert sorted(config["target_modules"]) == ["down_proj", "q_proj"]
    card = (last / "README.md").read_text()
    for words in ("weight decay 0.05", "peak learning rate 0.003", "a 20%\nwarm-up", "a cosine decay", "dropout 0.1"):
        assert words in card


def test_full_tunes_all_weights(alone: Command, tmp_path: Path) -> None:
    spec = spec_of(alone(*TRAIN, "--full", "--epochs", "1", "--weight-decay", "0.1"), tmp_path / "out")
    assert spec.lora is None
    (last,) = (tmp_path / "out" / "checkpoints").iterdir()
    assert (last / "model.safetensors").exists()
    assert "All weights of" in (last / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "run.yaml",
            "epochs: 1\nlearning-rate: 2e-4\nlora_rank: 2\nlora_targets: [q_proj, o_proj]\nschedule: constant\n",
        ),
        (
            "run.toml",
            "epochs = 1\nlearning_rate = 2e-4\nlora-rank = 2\n"
            'lora_targets = ["q_proj", "o_proj"]\nschedule = "constant"\n',
        ),
        (
            "run.json",
            '{"epochs": 1, "learning_rate": 2e-4, "lora_rank": 2, "lora_targets": "q_proj,o_proj",'
            ' "schedule": "constant"}',
        ),
    ],
)
def test_config_file_gives_options_and_the_command_line_wins(
    alone: Command, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    spec = spec_of(alone(*TRAIN, "--config", name, "--lora-rank", "3"), tmp_path / "out")
    assert spec.lora is not None
    assert (spec.n_epochs, spec.learning_rate, spec.schedule) == (1, 2e-4, "constant")
    assert (spec.lora.rank, spec.lora.targets) == (3, ("q_proj", "o_proj"))


def test_config_file_can_hold_every_option_of_the_command(alone: Command, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        f"model: {tiny.NAME}\ndata: rows.jsonl\nout: out\nepochs: 1\nfull: true\nseed: 1\n"
    )
    assert spec_of(alone("train", "--config", "run.yaml"), tmp_path / "out").lora is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("num_train_epochs: 3\n", "num_train_epochs is no option of this command. Did you mean epochs?"),
        ("lora_r: 3\n", "Did you mean lora_rank?"),
        ("lerning_rate: 3\n", "Did you mean learning_rate?"),
        ("epochs: [1\n", "cannot be read as YAML"),
        ("- epochs\n", "holds no options"),
        ("epochs: {a: 1}\n", "epochs is no single value"),
        ("lora_rank: true\n", "lora_rank is no single value"),
        ("epochs: many\n", "--epochs"),
    ],
)
def test_config_file_with_a_fault_ends_in_a_sentence(alone: Command, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    refused = alone(*TRAIN, "--config", "run.yaml")
    assert refused.exit_code != 0
    assert words in " ".join(refused.stderr.replace("│", " ").split())
    assert "Traceback" not in refused.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--lora-rank", "0"), "lora_rank is 0"),
        (("--lora-rank", "600"), "the rank cannot be greater"),
        (("--lora-targets", "q_proj,query"), "lora_targets names query, which tiny does not have. It has: down_proj"),
        (("--lora-targets", "lm_head"), "lora_targets names lm_head"),
        (("--full", "--lora-rank", "2"), "leave lora_rank out, or full"),
        (("--full", "--method", "dpo"), "Method dpo trains an adapter"),
        (("--bits", "4"), "luthier models pull tiny-4bit"),
        (("--bits", "5"), "bits is 5"),
        (("--max-tokens", "513"), "tiny has a context of 512 tokens"),
        (("--max-tokens", "8"), "too_many_tokens"),
        (("--learning-rate", "1e-4", "--lr-multiplier", "2"), "Send one of them"),
        (("--epochs", "1001"), "n_epochs is 1001"),
        (("--warmup", "1.5"), "warmup is 1.5"),
    ],
)
def test_option_that_cannot_be_is_refused_before_anything_is_written(
    alone: Command, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    refused = alone(*TRAIN, *options)
    assert refused.exit_code == 1, refused.output
    if words == "too_many_tokens":
        words = "tokens"
    assert words in refused.stderr
    assert not (tmp_path / "out").exists()


def test_few_bits_are_rounded_from_the_plain_base_and_trained_on(
    alone: Command, tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_models / tiny.NAME, tmp_path / "models" / tiny.NAME)
    monkeypatch.setenv("LUTHIER_MODELS_DIR", str(tmp_path / "models"))
    pulled = alone("models", "pull", f"{tiny.NAME}-8bit")
    assert pulled.exit_code == 0, pulled.output
    spec = spec_of(alone(*TRAIN, "--bits", "8", "--epochs", "1", "--lora-rank", "2"), tmp_path / "out")
    assert spec.lora is not None
    assert (spec.base_model, spec.lora.quantization, spec.lora.rank) == (f"{tiny.NAME}-8bit", "8bit", 2)
    (last,) = (tmp_path / "out" / "checkpoints").iterdir()
    assert "the base's weights in 8bit" in (last / "README.md").read_text()
    same = alone(*TRAIN[:2], f"{tiny.NAME}-8bit", *TRAIN[3:5], "--out", "same", "--seed", "3", "--epochs", "1")
    assert spec_of(same, tmp_path / "same").lora == spec.lora.model_copy(update={"rank": 4, "alpha": 8})
    assert "has weights of 8 bits" in alone(*TRAIN[:2], f"{tiny.NAME}-8bit", *TRAIN[3:], "--bits", "4").stderr
