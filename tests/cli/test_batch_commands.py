"""`luthier batches` against a running service, into a pipe."""

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

import batch_runs
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.service.context import Context
from luthier.service.models.serving import Serving

Command = Callable[..., Result]


def lines(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [line.split("\t") for line in result.stdout.splitlines()]


def test_batch_is_created_of_a_file_looked_at_and_its_answers_come_back(
    luthier: Command, tmp_path: Path, context: Context, serving: Serving, grammars: GrammarChecker
) -> None:
    wrong = batch_runs.chat("c", temperature=9)
    (tmp_path / "q.jsonl").write_bytes(batch_runs.jsonl([batch_runs.chat("a"), batch_runs.chat("b"), wrong]))
    batch_id = lines(luthier("batches", "create", "q.jsonl"))[-1][0]
    [[id, status, answered, model, created]] = lines(luthier("batches", "list"))
    assert (id, status, answered, model) == (batch_id, "validating", "0/0", "")
    assert created.startswith("20")
    early = luthier("batches", "download", batch_id, "-o", "answers.jsonl")
    assert early.exit_code == 1
    assert f"{batch_id} is validating and has no file of answers" in early.stderr
    batch_runs.serve(context, serving, grammars)
    assert lines(luthier("batches", "list"))[0][1:3] == ["completed", "3/3"]
    assert lines(luthier("batches", "download", batch_id, "-o", "answers.jsonl")) == [["answers.jsonl"]]
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [answer["custom_id"] for answer in answers] == ["a", "b"]
    errors = luthier("batches", "download", batch_id, "--errors", "-o", "-")
    assert json.loads(errors.stdout)["custom_id"] == "c"
    file_id = json.loads(luthier("batches", "show", batch_id).stdout)["input_file_id"]
    again = json.loads(luthier("batches", "create", file_id, "--json").stdout)["id"]
    assert lines(luthier("batches", "cancel", again)) == [[f"{again} cancelling"]]
    refused = luthier("batches", "cancel", batch_id)
    assert refused.exit_code == 1
    assert "completed already" in refused.stderr
