"""The commands against a running service: what a person types, and what it prints into a pipe."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import rows
from fakes import BASE, EchoEngine, ScriptedExecutor, train_well
from luthier.service.background.supervisor import Supervisor

Command = Callable[..., Result]


def lines(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [line.split("\t") for line in result.stdout.splitlines()]


def test_files_go_up_are_listed_come_back_and_are_deleted(luthier: Command, tmp_path: Path) -> None:
    file_id = lines(luthier("files", "upload", "rows.jsonl"))[-1][0]
    assert lines(luthier("files", "list")) == [[file_id, "rows.jsonl", str(len(rows.good())), "fine-tune", "processed"]]
    assert luthier("files", "download", file_id, "-o", "back.jsonl").exit_code == 0
    assert (tmp_path / "back.jsonl").read_bytes() == rows.good()
    assert luthier("files", "delete", file_id).exit_code == 0
    assert lines(luthier("files", "list")) == []


@pytest.mark.usefixtures("working")
def test_job_is_created_watched_and_looked_at(luthier: Command) -> None:
    created = luthier("jobs", "create", "--model", BASE, "--data", "rows.jsonl", "--seed", "3", "--watch")
    assert created.exit_code == 0, created.output
    assert "Job succeeded." in created.stderr
    [[job_id, status, model, tuned, created_at, took, loss]] = lines(luthier("jobs", "list"))
    assert (status, model) == ("succeeded", BASE)
    assert created.stdout.splitlines() == [job_id, tuned]
    assert created_at.startswith("20")
    assert took.count(":") == 2
    assert float(loss) > 0
    assert [line[0] for line in lines(luthier("jobs", "checkpoints", job_id))] == ["4", "2"]
    assert "Training tokens billed: 200" in luthier("jobs", "events", job_id).stdout
    assert tuned in luthier("jobs", "show", job_id).stdout
    refused = luthier("jobs", "cancel", job_id)
    assert refused.exit_code == 1
    assert "already succeeded" in refused.stderr


def test_job_is_paused_resumed_and_its_attempts_are_shown(
    luthier: Command, supervisor: Supervisor, executor: ScriptedExecutor
) -> None:
    executor.trainer = lambda run: None
    executor.alive = {"fake:1"}
    job_id = lines(luthier("jobs", "create", "--model", BASE, "--data", "rows.jsonl"))[-1][0]
    for _ in range(3):
        supervisor.tick()
    assert lines(luthier("jobs", "pause", job_id)) == [[f"{job_id} pausing"]]
    assert "only a paused job can be resumed" in luthier("jobs", "resume", job_id).stderr
    executor.alive.clear()
    supervisor.tick()
    watched = luthier("jobs", "watch", job_id)
    assert watched.exit_code == 0
    assert f"luthier jobs resume {job_id}" in watched.stderr
    assert watched.stdout == ""
    executor.trainer = train_well
    assert lines(luthier("jobs", "resume", job_id)) == [[f"{job_id} queued"]]
    for _ in range(3):
        supervisor.tick()
    told = lines(luthier("jobs", "attempts", job_id))
    assert [(number, end, last_step) for number, _, _, end, last_step, _ in told] == [
        ("2", "succeeded", "4"),
        ("1", "paused", "0"),
    ]
    shown = json.loads(luthier("jobs", "show", job_id).stdout)
    assert (shown["status"], [attempt["end"] for attempt in shown["attempts"]]) == (
        "succeeded",
        ["succeeded", "paused"],
    )


@pytest.mark.usefixtures("working")
def test_failed_job_ends_the_watch_with_status_1(luthier: Command, tmp_path: Path) -> None:
    (tmp_path / "few.jsonl").write_bytes(rows.good(9))
    file_id = lines(luthier("files", "upload", "few.jsonl"))[-1][0]
    failed = luthier("jobs", "create", "--model", BASE, "--data", file_id, "--watch")
    assert failed.exit_code == 1
    assert len(failed.stdout.splitlines()) == 1, "the id alone"
    assert "failed: " in failed.stderr.splitlines()[-1]
    assert "at least 10" in failed.stderr


def test_local_file_that_cannot_be_trained_on_is_refused_before_the_upload(luthier: Command, tmp_path: Path) -> None:
    (tmp_path / "few.jsonl").write_bytes(rows.good(9) + b'{"messages": "none"}\n')
    create = ("jobs", "create", "--model", BASE)
    refused = luthier(*create, "--data", "few.jsonl")
    assert (refused.exit_code, refused.stdout) == (1, "")
    first, *problems, last = refused.stderr.splitlines()
    assert first == "few.jsonl cannot be trained on; nothing was uploaded and no job was created:"
    assert problems == ["- Line 10, messages: messages is a JSON string. Give an array of at least one message."]
    assert last == "With warnings and statistics: luthier check few.jsonl --method supervised"
    (tmp_path / "empty.jsonl").write_bytes(b"")
    refused = luthier(*create, "--data", "rows.jsonl", "--validation", "empty.jsonl")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("empty.jsonl cannot be trained on;")
    refused = luthier(*create, "--data", "rows.jsonl", "--method", "dpo")
    assert refused.exit_code == 1
    assert lines(luthier("files", "list")) == lines(luthier("jobs", "list")) == []


def test_aliases_of_base_models_are_listed_on_request_only(luthier: Command) -> None:
    listed, with_aliases = luthier("models", "list"), luthier("models", "list", "--aliases")
    names = [line[0] for line in lines(listed)]
    aliases = {line[0]: line[3] for line in lines(with_aliases) if line[0] not in names}
    assert BASE in names
    assert aliases["gpt-4o-mini-2024-07-18"] in names
    assert f"{len(aliases)} aliases of base models: luthier models list --aliases" in listed.stderr
    assert with_aliases.stderr == ""


@pytest.mark.usefixtures("working")
def test_model_is_deployed_asked_and_cleaned_up(luthier: Command, engine: EchoEngine) -> None:
    engine.says = ["Hello yourself."]
    luthier("jobs", "create", "--model", BASE, "--data", "rows.jsonl", "--watch")
    tuned = lines(luthier("jobs", "list"))[0][3]
    created = luthier("deployments", "create", "clippy", "--model", tuned)
    assert created.exit_code == 0, created.output
    assert "differ by at most 0.0010 nats" in created.stdout
    listed = [["clippy", tuned, "Succeeded", "native", "ready", "It is loaded."]]
    assert lines(luthier("deployments", "list")) == listed
    proven = lines(luthier("parity", "clippy"))
    assert proven[0] == [tuned, "yes", "8", "0.0010", "0.0001", "0.05"]
    assert luthier("chat", "clippy", "Hello?").stdout.strip() == "Hello yourself."
    assert "Delete the deployment first" in luthier("models", "delete", tuned).stderr
    assert luthier("deployments", "delete", "clippy").exit_code == 0
    assert luthier("models", "delete", tuned).exit_code == 0
    assert tuned not in luthier("models", "list").stdout


def test_unknown_things_are_one_readable_line_and_status_1(luthier: Command) -> None:
    for arguments, words in (
        (("files", "upload", "nothing.jsonl"), "There is no file"),
        (("jobs", "show", "ftjob-none"), "There is no job"),
        (("models", "show", "nobody"), "There is no model"),
        (("deployments", "show", "nobody"), "does not exist"),
        (("deployments", "delete", "nobody"), "does not exist"),
        (("models", "pull", "nobody"), "The catalog has:"),
        (("chat", "nobody", "hi"), "There is no model"),
        (("models", "show", "nobody"), "`luthier models list` lists"),
        (("jobs", "show", "ftjob-none"), "`luthier jobs list` lists"),
        (("files", "show", "file-none"), "`luthier files list` lists"),
    ):
        result = luthier(*arguments)
        assert result.exit_code == 1, arguments
        assert words in result.stderr
        assert "Traceback" not in result.output


def test_service_that_does_not_run_is_named(luthier: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_URL", "http://127.0.0.1:9")
    result = luthier("models", "list")
    assert result.exit_code == 1
    assert "Is `luthier serve` running there?" in result.stderr


def test_name_in_brackets_is_shown_as_it_is(luthier: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows [bold].jsonl").write_bytes(rows.good())
    luthier("files", "upload", "rows [bold].jsonl")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "200")
    shown = luthier("files", "list")
    assert shown.exit_code == 0
    assert "rows [bold].jsonl" in shown.stdout


@pytest.mark.usefixtures("working")
def test_lists_are_json_for_programs_and_events_are_followed_to_the_end(luthier: Command) -> None:
    assert json.loads(luthier("files", "list", "--json").stdout) == []
    job_id = lines(luthier("jobs", "create", "--model", BASE, "--data", "rows.jsonl"))[-1][0]
    followed = luthier("jobs", "events", job_id, "--follow")
    assert "Training tokens billed: 200" in followed.stdout.splitlines()[-1]
    assert len(followed.stdout.splitlines()) == len(set(followed.stdout.splitlines()))
    [job] = json.loads(luthier("jobs", "list", "--json").stdout)
    assert (job["id"], job["status"]) == (job_id, "succeeded")
    luthier("deployments", "create", "clippy", "--model", job["fine_tuned_model"])
    for arguments, field, expected in (
        (("files", "list"), "filename", {"rows.jsonl", "results.csv"}),
        (("jobs", "checkpoints", job_id), "step_number", {2, 4}),
        (("deployments", "list"), "name", {"clippy"}),
    ):
        told = json.loads(luthier(*arguments, "--json").stdout)
        assert {each[field] for each in told} == expected
    assert job["fine_tuned_model"] in {each["id"] for each in json.loads(luthier("models", "list", "--json").stdout)}
    events = json.loads(luthier("jobs", "events", job_id, "--json").stdout)
    assert (events[-1]["message"], events[-1]["level"]) == ("Training tokens billed: 200", "info")
    shown = json.loads(luthier("files", "show", job["training_file"]).stdout)
    assert (shown["filename"], shown["bytes"]) == ("rows.jsonl", len(rows.good()))
    assert luthier("jobs", "events", job_id, "--json", "--follow").exit_code == 1
