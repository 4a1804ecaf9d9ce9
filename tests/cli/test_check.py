"""luthier check: what it prints and tells programs, its status, and that it needs neither service nor torch."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import parsed_rows
import rows
import tiny
from luthier.cli.data import check
from luthier.data.rendering.renderer import Renderer
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer

Command = Callable[..., Result]


def line(question: str, answer: str, **more: Any) -> str:
    messages = [{"role": "user", "content": question, **more}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages})


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_good_file_is_status_0_and_a_summary(alone: Command, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(rows.good())
    done = alone("check", "rows.jsonl")
    assert done.exit_code == 0, done.output
    assert "rows.jsonl can be trained on: 10 rows, 10 good, 0 with warnings, 0 bad." in done.stdout


def test_problems_are_grouped_by_kind_errors_first_with_their_lines(alone: Command, tmp_path: Path) -> None:
    good = [line(f"Question {n}?", f"Answer {n}.") for n in range(10)]
    bad = [line("a", "b", weight=1)] * 3
    write(tmp_path / "rows.jsonl", *good, good[0], *bad, "{", line("x", "y", weight=1))
    done = alone("check", "rows.jsonl")
    assert done.exit_code == 1
    summary, *_ = done.stdout.splitlines()
    assert summary == "rows.jsonl cannot be trained on: 16 rows, 10 good, 1 with warnings, 5 bad."
    kinds = [text for text in done.stdout.splitlines() if text.startswith(("error", "warning"))]
    assert kinds == [
        "error misplaced_weight lines 12-14, 16 (4 in all)",
        "error truncated_json line 15",
        "warning duplicate_example line 11",
    ]
    assert "  Line 12, messages[0].weight: weight is set on a user message" in done.stdout


def test_blank_lines_are_no_rows(alone: Command, tmp_path: Path) -> None:
    good = [line(f"Question {n}?", f"Answer {n}.") for n in range(10)]
    write(tmp_path / "rows.jsonl", *good[:5], "", *good[5:])
    write(tmp_path / "text.jsonl", *["Q: a?", "A: b.", ""] * 12)
    assert "10 rows, 10 good, 0 with warnings, 0 bad." in alone("check", "rows.jsonl").stdout
    assert "24 rows, 0 good, 0 with warnings, 24 bad." in alone("check", "text.jsonl").stdout
    numbers = json.loads(alone("check", "text.jsonl", "--json").stdout)["statistics"]
    assert (numbers["rows"], numbers["good_rows"], numbers["bad_rows"]) == (24, 0, 24)


def test_another_fault_of_the_same_code_is_shown_too(alone: Command, tmp_path: Path) -> None:
    good = [line(f"Question {n}?", f"Answer {n}.") for n in range(10)]
    unquoted, quote = good[0].replace('"role"', "role", 1), good[0].replace("Question", 'Que"stion')
    write(tmp_path / "rows.jsonl", *good, unquoted, quote, unquoted)
    told = alone("check", "rows.jsonl").stdout
    assert "error invalid_json lines 11, 13 (2 in all)" in told
    assert "error invalid_json line 12" in told


def test_warnings_alone_are_status_0(alone: Command, tmp_path: Path) -> None:
    good = [line(f"Question {n}?", f"Answer {n}.") for n in range(10)]
    write(tmp_path / "rows.jsonl", *good, good[0])
    done = alone("check", "rows.jsonl")
    assert (done.exit_code, "duplicate_example" in done.stdout) == (0, True)


def test_json_has_every_problem_and_the_statistics(alone: Command, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(rows.good() + b"{")
    (tmp_path / "valid.jsonl").write_bytes(rows.good().splitlines()[0])
    done = alone("check", "rows.jsonl", "--validation", "valid.jsonl", "--model", tiny.NAME, "--json")
    assert (done.exit_code, done.stderr) == (1, "")
    told = json.loads(done.stdout)
    (problem,) = told["problems"]
    assert problem == {
        "line": 11,
        "path": "",
        "code": "truncated_json",
        "severity": "error",
        "message": problem["message"],
        "fix": problem["fix"],
    }
    numbers = told["statistics"]
    counts = {name: numbers[name] for name in ("rows", "good_rows", "warned_rows", "bad_rows", "errors", "warnings")}
    assert counts == {"rows": 11, "good_rows": 10, "warned_rows": 0, "bad_rows": 1, "errors": 1, "warnings": 0}
    assert [one["code"] for one in told["validation"]["problems"]] == ["leaked_example"]


def test_tokens_are_those_that_the_renderer_makes(alone: Command, tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(rows.good())
    done = alone("check", "rows.jsonl", "--model", tiny.NAME, "--json")
    renderer = Renderer(TorchFreeTokenizer(tiny_models / tiny.NAME / "hf"), 512)
    examples = parsed_rows.read_examples(rows.good())
    made = [one for _, example in examples for one in renderer.render(example)]
    told = json.loads(done.stdout)["statistics"]["tokens"]
    assert told["tokens"]["total"] == sum(len(one.token_ids) for one in made)
    assert told["supervised"]["total"] == sum(sum(map(bool, one.loss_weights)) for one in made)
    assert told["context_tokens"] == 512


def test_row_over_the_models_context_is_an_error(alone: Command, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(rows.good() + line("Long?", "a " * 600).encode())
    done = alone("check", "rows.jsonl", "--model", tiny.NAME)
    assert done.exit_code == 1
    assert "error too_many_tokens line 11" in done.stdout
    assert alone("check", "rows.jsonl").exit_code == 0, "without a model there is no context to hold it against"


def test_model_that_is_not_pulled_still_tells_what_it_can_take(
    alone: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUTHIER_MODELS_DIR", str(tmp_path / "none"))
    (tmp_path / "rows.jsonl").write_bytes(rows.good())
    done = alone("check", "rows.jsonl", "--model", tiny.NAME)
    assert done.exit_code == 0
    assert "luthier models pull tiny" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("nowhere.jsonl",), ("rows.jsonl", "--model", "none"), ("rows.jsonl", "--method", "magic"), ()],
)
def test_wrong_use_is_status_2(alone: Command, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "rows.jsonl").write_bytes(rows.good())
    assert alone("check", *arguments).exit_code == 2


def test_unknown_keys_are_named_escaped_and_cut_and_only_here(alone: Command, tmp_path: Path) -> None:
    keys = ["source", "a\x1b[31m", "k" * 200]
    more = dict.fromkeys(keys, 1)
    good = [json.dumps({**json.loads(line(f"Question {n}?", f"Answer {n}.")), **more}) for n in range(10)]
    write(tmp_path / "rows.jsonl", *good)
    told = alone("check", "rows.jsonl")
    assert told.exit_code == 0
    assert '"source" (10), "a\\u001b[31m" (10), "' + "k" * 40 + '..." (10).' in told.stdout
    problems = json.loads(alone("check", "rows.jsonl", "--json").stdout)["problems"]
    assert [one["key"] for one in problems[:2]] == keys[:2]
    assert not any("source" in one["message"] for one in problems)


@pytest.mark.parametrize("model", [(), ("--model", tiny.NAME)])
def test_rows_that_would_fail_a_job_are_status_1(alone: Command, tmp_path: Path, model: tuple[str, ...]) -> None:
    shown = [{"type": "image_url", "image_url": {"url": "https://a.example/1.png"}}]
    messages = [{"role": "user", "content": shown}, {"role": "assistant", "content": "A cat."}]
    (tmp_path / "rows.jsonl").write_bytes(rows.good() + json.dumps({"messages": messages}).encode())
    done = alone("check", "rows.jsonl", *model)
    assert (done.exit_code, "cannot be trained on" in done.stdout) == (1, True)


@pytest.mark.parametrize(
    ("row", "fixed"),
    [
        ({"system": "Be brief."}, "system beside the messages made their first message: line 1-10"),
        ({}, "flags of what is learned turned into weight: line 1-10"),
    ],
)
def test_keys_of_other_trainers_are_errors_that_fix_mends(
    alone: Command, tmp_path: Path, row: dict[str, Any], fixed: str
) -> None:
    learned = [{"role": "user", "content": "Well?"}, {"role": "assistant", "content": "Yes."}]
    flag = {} if row else {"train": False}
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Hm.", **flag}, *learned]
    write(tmp_path / "rows.jsonl", *[json.dumps({**row, "messages": turns, "id": n}) for n in range(10)])
    assert alone("check", "rows.jsonl").exit_code == 1
    done = alone("check", "rows.jsonl", "--fix", "mended.jsonl")
    assert (done.exit_code, fixed in done.stdout) == (0, True), done.stdout


def test_preferences_are_checked_by_their_method(alone: Command, tmp_path: Path) -> None:
    outputs = {"preferred_output": "Yes", "non_preferred_output": "No"}
    pairs = [
        json.dumps(
            {"input": {"messages": [{"role": "user", "content": f"Tea {n}?"}]}}
            | {key: [{"role": "assistant", "content": text}] for key, text in outputs.items()}
        )
        for n in range(10)
    ]
    write(tmp_path / "pairs.jsonl", *pairs)
    assert alone("check", "pairs.jsonl", "--method", "dpo").exit_code == 0
    done = alone("check", "pairs.jsonl")
    assert (done.exit_code, "preference_row lines 1-10" in done.stdout) == (1, True)


def test_check_loads_no_torch_and_no_server(tmp_path: Path, tiny_models: Path, alone: Command) -> None:
    (tmp_path / "rows.jsonl").write_bytes(rows.good())
    code = (
        "import sys; from luthier.cli.main import app\n"
        f"try: app(['check', 'rows.jsonl', '--model', {tiny.NAME!r}], standalone_mode=False)\n"
        "finally: print(*{'torch', 'transformers', 'fastapi', 'uvicorn'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=True
    )
    assert "tokens an epoch" in done.stdout
    assert done.stdout.splitlines()[-1] == ""


def test_bar_is_for_large_files_on_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    path.write_bytes(b"x" * (check.LARGE_BYTES + 1))
    done = subprocess.run(
        ["script", "-qec", f"{sys.executable} -m luthier check {path}", "/dev/null"],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert "check large.jsonl" in done.stdout
    plain = subprocess.run([sys.executable, "-m", "luthier", "check", str(path)], capture_output=True, text=True)
    assert (plain.returncode, plain.stderr) == (1, "")


def test_fix_writes_a_copy_says_what_it_changed_and_checks_that(alone: Command, tmp_path: Path) -> None:
    good = [line(f"Question {n}?", f"Answer {n}.") for n in range(10)]
    file = write(tmp_path / "rows.jsonl", *good, "", good[0], line("a", "b", weight=1), "{")
    before = file.read_bytes()
    done = alone("check", "rows.jsonl", "--fix", "mended.jsonl")
    assert done.exit_code == 1, "one row is still bad"
    assert file.read_bytes() == before
    assert (tmp_path / "mended.jsonl").read_text().splitlines() == [*good, line("a", "b"), "{"]
    assert [text.strip() for text in done.stdout.splitlines() if ": line" in text] == [
        "blank line removed: line 11",
        "row removed that is the same as an earlier one: line 12",
        "weight removed from a message that is not the assistant's: line 13",
    ]
    assert "mended.jsonl cannot be trained on: 12 rows, 11 good, 0 with warnings, 1 bad." in done.stdout
    told = json.loads(alone("check", "rows.jsonl", "--fix", "again.jsonl", "--json").stdout)
    assert [(one["code"], one["lines"]) for one in told["changes"]] == [
        ("blank_line", [11]),
        ("duplicate", [12]),
        ("weight", [13]),
    ]
    assert [one["code"] for one in told["problems"]] == ["truncated_json"]


@pytest.mark.parametrize("out", ["rows.jsonl", "./rows.jsonl", "other.jsonl", "nowhere/out.jsonl"])
def test_fix_overwrites_nothing(alone: Command, tmp_path: Path, out: str) -> None:
    for name in ("rows.jsonl", "other.jsonl"):
        (tmp_path / name).write_bytes(rows.good())
    assert alone("check", "rows.jsonl", "--fix", out).exit_code == 2
    assert {path.name for path in tmp_path.glob("*.jsonl")} == {"rows.jsonl", "other.jsonl"}
    assert (tmp_path / "rows.jsonl").read_bytes() == (tmp_path / "other.jsonl").read_bytes() == rows.good()


def test_file_of_another_kind_is_one_error(alone: Command, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"PK\x03\x04" + bytes(2000))
    done = alone("check", "rows.jsonl")
    assert (done.exit_code, "error not_jsonl the file" in done.stdout) == (1, True)


def write_in(encoding: str, path: Path) -> bytes:
    lines = [line(f"Где стоит машина {n}?", f"Машина {n} стоит на месте.") for n in range(10)]
    text = "".join(json.dumps(json.loads(one), ensure_ascii=False) + "\n" for one in lines)
    path.write_bytes(text.encode(encoding))
    return text.encode()


def test_unknown_encoding_is_asked_for_and_the_file_left_alone(alone: Command, tmp_path: Path) -> None:
    write_in("cp1251", tmp_path / "rows.jsonl")
    done = alone("check", "rows.jsonl", "--fix", "mended.jsonl")
    assert done.exit_code == 1
    assert "rows.jsonl is left as it is, and mended.jsonl not written: 10 lines are not UTF-8" in done.stderr
    assert "--encoding cp1251" in done.stderr
    assert not list(tmp_path.glob("*mended*"))
    told = alone("check", "rows.jsonl")
    assert (told.exit_code, "--encoding cp1251" in told.stdout) == (1, True)


def test_named_encoding_is_decoded_with_and_without_a_repair(alone: Command, tmp_path: Path) -> None:
    text = write_in("cp1251", tmp_path / "rows.jsonl")
    done = alone("check", "rows.jsonl", "--encoding", "windows-1251", "--fix", "mended.jsonl")
    assert (done.exit_code, (tmp_path / "mended.jsonl").read_bytes()) == (0, text)
    assert "text of another encoding turned into UTF-8: line 1-10" in done.stdout
    read = alone("check", "rows.jsonl", "--encoding", "windows-1251", "--json")
    (problem,) = json.loads(read.stdout)["problems"]
    assert (read.exit_code, problem["code"], problem["line"]) == (1, "invalid_utf8", None)
    assert problem["message"] == "10 lines were read as cp1251; a service accepts UTF-8 only."


def test_encoding_that_is_none_or_not_the_files_is_refused(alone: Command, tmp_path: Path) -> None:
    write_in("cp1251", tmp_path / "rows.jsonl")
    unknown = alone("check", "rows.jsonl", "--encoding", "cyrilic")
    assert (unknown.exit_code, "no encoding has the name" in unknown.stderr) == (2, True)
    wrong = alone("check", "rows.jsonl", "--encoding", "ascii")
    assert (wrong.exit_code, "cannot be read as ascii: line 1" in wrong.stderr) == (1, True)
    assert alone("check", "rows.jsonl", "--encoding", "ascii", "--fix", "mended.jsonl").exit_code == 1
    assert not list(tmp_path.glob("*mended*"))
