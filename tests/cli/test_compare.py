"""luthier jobs compare: one chart, what differs, the same for programs."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import rows
from fakes import BASE
from luthier.cli.comparison import differences
from luthier.cli.comparison.job_facts import JobReport

Command = Callable[..., Result]
IDS = [f"ftjob-{letter * 32}" for letter in "abcdef"]


@pytest.fixture
def two_jobs(working: None, luthier: Command, tmp_path: Path) -> list[str]:
    """Two succeeded jobs: the second with another seed, a validation file, and a recipe of its own."""
    (tmp_path / "held.jsonl").write_bytes(rows.good(11))
    first = ("jobs", "create", "--model", BASE, "--data", "rows.jsonl", "--seed", "3", "--watch")
    more = ("--seed", "4", "--validation", "held.jsonl", "--lora-rank", "4", "--watch")
    second = ("jobs", "create", "--model", BASE, "--data", "rows.jsonl", *more)
    return [luthier(*arguments).stdout.split()[0] for arguments in (first, second)]


def test_two_jobs_are_compared_for_programs_pipes_and_people(
    luthier: Command, two_jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = luthier("jobs", "compare", *two_jobs, "--json")
    assert compared.exit_code == 0, compared.output
    value = json.loads(compared.stdout)
    first, second = value["jobs"]
    assert (value["metric"], first["id"], second["id"]) == ("train_loss", *two_jobs)
    assert (first["seed"], second["seed"], second["luthier.lora_rank"]) == (3, 4, 4)
    assert [step for step, _ in first["points"]] == [1, 2, 3, 4]
    assert second["best_full_valid_loss"] == 0.5
    assert first["training_file_sha256"] == second["training_file_sha256"]
    assert len(first["training_file_sha256"]) == 64
    assert {"seed", "validation_file", "best_full_valid_loss"} <= set(value["differs"])
    assert not {"base_model", "method", "training_file_sha256"} & set(value["differs"])
    assert first["best_checkpoint"].startswith(f"{BASE}.ft-")

    quiet = luthier("jobs", "compare", *two_jobs, "--quiet")
    assert (quiet.stdout.splitlines(), quiet.stderr) == (value["differs"], "")
    piped = luthier("jobs", "compare", *two_jobs).stdout
    assert "⠤" not in piped
    assert ["seed", "3", "4"] in [line.split("\t") for line in piped.splitlines()]
    assert piped.splitlines()[0] == "\t".join(["job", *two_jobs])

    for name, text in {"TTY_COMPATIBLE": "1", "NO_COLOR": "1", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, text)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", luthier("jobs", "compare", *two_jobs, "--all").stdout)
    assert max(map(len, shown.splitlines())) <= 80
    assert all(id in shown for id in two_jobs)
    assert re.search(r"┤.*[AB]", shown), "without colours the lines are letters"
    assert re.search(r"^seed +3 +4$", shown, re.MULTILINE)
    assert re.search(rf"^base_model +{BASE} +{BASE}$", shown, re.MULTILINE)
    assert f"best_checkpoint\n  A  {BASE}.ft-" in shown


def test_jobs_are_named_by_the_beginning_of_the_id_or_by_the_model(luthier: Command, two_jobs: list[str]) -> None:
    first, second = two_jobs
    models = {job["id"]: job["fine_tuned_model"] for job in json.loads(luthier("jobs", "list", "--json").stdout)}
    named = luthier("jobs", "compare", models[first], second.removeprefix("ftjob-"), "--json")
    assert [job["id"] for job in json.loads(named.stdout)["jobs"]] == [first, second]
    ambiguous = luthier("jobs", "compare", "ftjob-0000", second)
    assert (ambiguous.exit_code, first in ambiguous.stderr, second in ambiguous.stderr) == (1, True, True)
    assert "There is no job 'zzz'" in luthier("jobs", "compare", "zzz", second).stderr
    for line in ((first,), (first, first), (first, second, "--metric", "loss")):
        assert luthier("jobs", "compare", *line).exit_code == 2
    accuracy = luthier("jobs", "compare", first, second, "--metric", "train_mean_token_accuracy", "--json")
    assert json.loads(accuracy.stdout)["jobs"][0]["points"][0] == [1, 0.5]


@pytest.mark.parametrize("n_jobs", [2, 4, 6])
def test_many_jobs_and_long_values_fit_80_columns(
    n_jobs: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TTY_COMPATIBLE": "1", "NO_COLOR": "1", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    reports = [
        JobReport(id, "succeeded", {"seed": i, "training_file": f"file-{id[6:]}", "final_train_loss": i / 7}, {})
        for i, id in enumerate(IDS[:n_jobs], 1)
    ]
    differences.print_facts(reports, differences.differing(reports))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out)
    assert max(map(len, shown.splitlines())) <= 80
    assert all(f"file-{id[6:]}" in shown for id in IDS[:n_jobs])
    assert "0.1429" in shown
