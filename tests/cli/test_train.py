"""luthier train: a whole run without a service, what it refuses before it begins, Ctrl-C and going on."""

import fcntl
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import rows
import tiny
from luthier.cli.training import follow
from luthier.core.training import hyperparameters
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Metrics, Succeeded

Command = Callable[..., Result]

TRAIN = ("train", "--model", tiny.NAME, "--data", "rows.jsonl")


@pytest.fixture(autouse=True)
def data(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(rows.good())


def test_train_ends_with_one_json_object_that_agrees_with_the_run(alone: Command, tmp_path: Path) -> None:
    command = (*TRAIN, "--validation", "rows.jsonl", "--epochs", "2", "--batch-size", "4", "--out", "out", "--json")
    done = alone(*command)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert "step 6/6" in done.stderr
    run = RunDirectory(tmp_path / "out")
    steps = [event for event, _ in run.tail() if isinstance(event, Metrics)]
    verdict = list(run.tail())[-1][0]
    assert isinstance(verdict, Succeeded)
    assert told["steps"] == len(steps) == 6
    assert told["tokens"] == sum(step.tokens or 0 for step in steps) == verdict.trained_tokens
    assert told["supervised_tokens"] == sum(step.supervised_tokens or 0 for step in steps) < told["tokens"]
    assert 0 < told["step_seconds"] < told["seconds"] == verdict.seconds
    assert told["tokens_per_s"] == pytest.approx(told["tokens"] / told["step_seconds"])
    assert told["supervised_tokens_per_s"] == pytest.approx(told["supervised_tokens"] / told["step_seconds"])
    assert (told["train_loss"], told["full_valid_loss"]) == (steps[-1].train_loss, steps[-1].full_valid_loss)
    assert told["peak_memory_bytes"] == verdict.peak_memory_bytes
    adapter = Path(told["checkpoint"]) / "adapter_model.safetensors"
    assert adapter.parent == tmp_path / "out" / "checkpoints" / "step-000006"
    assert told["adapter_sha256"] == hashlib.sha256(adapter.read_bytes()).hexdigest()

    again = alone(*command)
    assert json.loads(again.stdout) == told, "a finished run is shown, not trained again"
    other = alone(*command[:-3], "--out", "other", "--json", "--seed", str(run.read_spec().seed))
    assert json.loads(other.stdout)["adapter_sha256"] == told["adapter_sha256"]
    manifests = [path / "checkpoints" / "step-000006" / "manifest.json" for path in (run.path, tmp_path / "other")]
    assert manifests[0].read_bytes() == manifests[1].read_bytes()


def test_other_parameters_on_a_folder_that_holds_a_run_are_refused_with_what_differs(
    alone: Command, tmp_path: Path
) -> None:
    (tmp_path / "few.jsonl").write_bytes(rows.good(9))
    assert alone("train", "--model", tiny.NAME, "--data", "few.jsonl", "--out", "out").exit_code == 1
    assert not (tmp_path / "out").exists(), "what is refused leaves nothing behind"
    chosen = hyperparameters.resolve(hyperparameters.Hyperparameters(), 11)
    begun = alone(*TRAIN, "--seed", "5", "--epochs", "1", "--out", "out")
    assert begun.exit_code == 0, begun.output
    (tmp_path / "more.jsonl").write_bytes(rows.good(11))
    refused = alone("train", "--model", tiny.NAME, "--data", "more.jsonl", "--seed", "6", "--out", "out")
    assert refused.exit_code == 1
    for words in ("seed is 5 there and 6 here", f"n_epochs is 1 there and {chosen.n_epochs}", "more.jsonl has other b"):
        assert words in refused.stderr
    assert RunDirectory(tmp_path / "out").read_spec().seed == 5
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "letter.txt").write_text("mine")
    assert "is not a run" in alone(*TRAIN, "--out", "busy").stderr


def test_train_says_what_is_wrong_before_anything_is_loaded(alone: Command, tmp_path: Path) -> None:
    bad = b'{"messages": 1}\nnot json\n' + b'{"prompt": "a", "completion": "b"}\n' * 40
    (tmp_path / "bad.jsonl").write_bytes(bad)
    options = ("--data", "rows.jsonl", "--out", "out")
    for arguments, words in (
        (("--model", "nobody", *options), "On this machine: tiny. The catalog has:"),
        (("--model", "qwen3-0.6b", *options), "luthier models pull qwen3-0.6b"),
        (("--model", tiny.NAME, "--data", "nothing.jsonl", "--out", "out"), "--data: there is no file nothing.jsonl"),
        (("--model", tiny.NAME, *options, "--batch-size", "0"), "batch_size is 0"),
        (("--model", tiny.NAME, *options, "--seed", "-1"), "seed is -1"),
        (("--model", tiny.NAME, *options, "--early-stop", "2"), "there is no validation_file"),
        (("--model", tiny.NAME, *options, "--early-stop", "0", "--validation", "rows.jsonl"), "early stopping is 0"),
        (("--model", tiny.NAME, *options, "--validation", "bad.jsonl"), "--validation bad.jsonl cannot be used"),
    ):
        refused = alone("train", *arguments)
        assert refused.exit_code == 1, arguments
        assert words in refused.stderr
        assert "Traceback" not in refused.output
    told = refused.stderr.splitlines()
    assert len(told) == 4, "each kind of the file's problems, once"
    assert [line.partition(":")[0] for line in told[1:]] == [
        "- Line 1, messages",
        "- Line 2",
        "- Lines 3-42 (40 in all)",
    ]
    assert not (tmp_path / "out").exists()


def test_interrupt_saves_and_says_how_to_go_on_and_the_same_command_goes_on(alone: Command, tmp_path: Path) -> None:
    command = (*TRAIN, "--epochs", "50", "--batch-size", "1", "--out", "out")
    with subprocess.Popen(
        [sys.executable, "-m", "luthier", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    ) as process:
        run = RunDirectory(tmp_path / "out")
        while process.poll() is None and not steps(run):
            time.sleep(0.01)  # the command's own lines come too seldom: the run might be over by the first
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 1
    assert "The same command resumes from the last save" in said
    assert not run.is_locked()
    with run.lock.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        held = alone(*command)
    assert (held.exit_code, "A trainer is already running" in held.stderr) == (1, True)
    assert 0 < len(steps(run)) < 500
    done = alone(*command, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["steps"] == 500
    assert steps(run) == list(range(1, 501))


def heed_interrupts() -> None:
    """Tests that run in the background of a shell are started with SIGINT ignored, and so would the command be."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def steps(run: RunDirectory) -> list[int]:
    return [event.step for event, _ in run.tail() if isinstance(event, Metrics)]


def test_train_shows_the_trainers_own_verdict(alone: Command, tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(catalog.read_text().replace('"v_proj"', '"nowhere_proj"'))  # what only the trainer can find
    failed = alone(*TRAIN, "--out", "out")
    assert failed.exit_code == 1
    assert "nowhere_proj" in failed.stderr
    assert "give another --out or remove" in failed.stderr


def test_progress_words_give_the_recent_rate_and_the_time_left() -> None:
    def step(number: int, at: float) -> Metrics:
        return Metrics(
            at=at,
            step=number,
            n_steps=12,
            train_loss=0.5,
            train_mean_token_accuracy=0.5,
            tokens=100,
            supervised_tokens=10,
            seconds=0.5,
        )

    assert follow.progress_words([step(1, 10.0)]) == "loss 0.5000  200 tokens/s"
    assert follow.progress_words([step(1, 10.0), step(2, 12.0)]) == "loss 0.5000  200 tokens/s  0:00:20 left"


def test_train_by_preferences_learns_them_and_beta_alone_is_refused(alone: Command, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_bytes(rows.pairs())
    command = ("train", "--model", tiny.NAME, "--data", "pairs.jsonl", "--epochs", "2", "--out", "out")
    refused = alone(*command, "--beta", "0.2")
    assert refused.exit_code == 1
    assert "--method dpo" in refused.stderr
    done = alone(*command, "--method", "dpo", "--beta", "0.2", "--seed", "4")
    assert done.exit_code == 0, done.output
    spec = RunDirectory(tmp_path / "out").read_spec()
    assert (spec.method, spec.beta) == ("dpo", 0.2)
    other = alone(*command, "--method", "dpo", "--beta", "0.3", "--seed", "4")
    assert "beta is 0.2 there and 0.3 here" in other.stderr


def test_row_too_long_for_the_model_is_told_before_anything_is_written(alone: Command, tmp_path: Path) -> None:
    long = {"messages": [{"role": "user", "content": "1 " * 600}, {"role": "assistant", "content": "Yes."}]}
    (tmp_path / "rows.jsonl").write_bytes(rows.good() + json.dumps(long).encode())
    done = alone(*TRAIN, "--out", "out")
    assert done.exit_code == 1
    assert "Line 11, messages: the example has" in done.stderr
    assert not (tmp_path / "out").exists()
