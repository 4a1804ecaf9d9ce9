"""A watched job in a terminal: each event with its time, the live line while nothing comes, model and next commands."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import Result

from fakes import BASE
from luthier.cli.charts.live_chart import LiveChart
from luthier.cli.commands import watch
from luthier.core.states import EventCode

Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(watch, "POLL_S", 0.05)


@pytest.mark.usefixtures("working")
def test_watch_in_a_terminal_keeps_the_times_and_ends_with_model_and_next_commands(
    luthier: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    done = luthier("jobs", "create", "--model", BASE, "--data", "rows.jsonl", "--suffix", "clippy", "--watch")
    assert done.exit_code == 0, done.output
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", done.stderr)
    for words in ("Job started.", "Checkpoint created at step 2", "Job succeeded."):
        assert re.search(rf"\d\d:\d\d:\d\d {re.escape(words)}", shown), (words, shown)
    assert re.search(r"^ *1\.\d+e?.*┤|^ *0\.\d+ ┤[\u2801-\u28ff]", shown, re.MULTILINE), shown
    assert re.search(r"^ +1 +step +4$", shown, re.MULTILINE), shown
    assert max(len(line) for line in shown.splitlines() if set(line) & set("┤│└")) <= 80
    tuned = done.stdout.split()[-1]
    assert tuned.endswith("-clippy")
    last = [line for line in shown.splitlines() if line.strip()][-2:]
    assert last == [f"  luthier deployments create clippy --model {tuned}", "  luthier chat clippy"]


@pytest.mark.usefixtures("working")
def test_watch_into_a_pipe_prints_the_model_alone(luthier: Command) -> None:
    job_id = luthier("jobs", "create", "--model", BASE, "--data", "rows.jsonl").stdout.strip()
    done = luthier("jobs", "watch", job_id)
    [tuned] = done.stdout.splitlines()
    assert tuned.startswith(f"{BASE}.ft-")
    assert "Epoch 1: training loss 0.1353\n" in done.stderr
    assert "⠤" not in done.stderr
    assert luthier("jobs", "watch", job_id, "--quiet").output == f"{tuned}\n"
    ended = json.loads(luthier("jobs", "watch", job_id, "--json").stdout)
    assert (ended["id"], ended["fine_tuned_model"]) == (job_id, tuned)
    assert f"luthier deployments create my-model --model {tuned}" in done.stderr


def test_live_line_says_what_is_waited_for() -> None:
    said: list[dict[str, Any]] = []
    line = watch._Line(lambda **values: said.append(values), LiveChart())

    def event(kind: str, message: str = "", **data: float | str) -> SimpleNamespace:
        return SimpleNamespace(type=kind, message=message, data=data, created_at=0)

    def look(status: str) -> None:
        line.look(SimpleNamespace(status=status, hyperparameters=SimpleNamespace(n_epochs=2)))

    look("validating_files")
    look("queued")
    look("running")
    line.show(event("message", "10 examples, 4 steps.", code=EventCode.TRAINING, n_steps=4))
    for step in range(1, 5):
        line.show(event("metrics", step=step, train_loss=1.0))
        look("running")
    assert [values["description"] for values in said] == [
        "checking the files",
        "waiting for its turn",
        "loading the model",
        "training",
        "loss 1.000",
        "loss 1.000, checkpoint 1",
        "loss 1.000",
        "loss 1.000, saving the model",
    ]


def test_nothing_is_sent_for_a_model_or_file_that_is_not_there(luthier: Command, tmp_path: Path) -> None:
    wrong = luthier("jobs", "create", "--model", "gpt-none", "--data", "rows.jsonl")
    assert "There is no model 'gpt-none'" in wrong.stderr
    missing = luthier("jobs", "create", "--model", BASE, "--data", "rows.jsonl", "--validation", "nothing.jsonl")
    assert "There is no file nothing.jsonl." in missing.stderr
    absent = luthier("jobs", "create", "--model", "qwen3-4b-instruct-2507", "--data", "rows.jsonl")
    assert "luthier models pull qwen3-4b-instruct-2507" in absent.stderr
    assert luthier("files", "list").stdout == ""


@pytest.mark.usefixtures("working")
def test_job_and_models_are_deleted_and_own_models_are_listed_first(luthier: Command) -> None:
    created = luthier("jobs", "create", "--model", BASE, "--data", "rows.jsonl", "--watch")
    job_id, tuned = created.stdout.split()
    names = [line.split("\t")[0] for line in luthier("models", "list").stdout.splitlines()]
    assert tuned in names[:2]
    assert names.index(BASE) >= 2
    assert luthier("models", "remove", tuned).stdout == f"deleted {tuned}\n"
    assert luthier("jobs", "delete", job_id).stdout == f"deleted {job_id}\n"
    assert luthier("jobs", "list").stdout == ""
    assert "There is no job" in luthier("jobs", "delete", job_id).stderr
