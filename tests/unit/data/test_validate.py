"""A whole file: everything wrong with it in one report."""

import json

import pytest

from luthier.data.checks import validate
from luthier.data.problems import problem_tally
from luthier.data.problems.problem import Severity
from repository import CLIPPY

GOOD = json.dumps({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}).encode()


def check(*lines: bytes, least: int = 10) -> validate.Report:
    return validate.check_file([b"\n".join(lines)], frozenset(), least)


def test_check_file_guides_rows_are_valid() -> None:
    report = validate.check_file([CLIPPY.read_bytes()], frozenset())
    assert (report.problems, report.n_examples, report.valid) == ((), 10, True)


def test_check_file_nine_rows_are_too_few_for_training_not_for_validation() -> None:
    report = check(*[GOOD] * 9)
    assert [problem.code for problem in report.problems] == ["too_few_examples"]
    assert "9" in report.problems[0].message
    assert check(*[GOOD] * 9, least=1).valid


def test_check_file_every_problem_is_reported_in_order_of_lines() -> None:
    report = check(*[GOOD] * 9, b'{"messages": []}', GOOD, b"{", b'{"prompt": "", "completion": ""}')
    assert [(problem.line, problem.code) for problem in report.problems] == [
        (10, "invalid_messages"),
        (12, "truncated_json"),
        (13, "prompt_completion_row"),
    ]
    assert (report.n_examples, report.n_errors) == (10, 3)


def test_check_file_more_problems_than_are_listed_are_counted() -> None:
    report = check(*[GOOD] * 10, *[b"{}"] * 1500)
    assert (len(report.problems), report.n_errors) == (problem_tally.MAX_LISTED, 1500)


@pytest.mark.parametrize(
    ("content", "guess"),
    [
        (b'[\n{"messages": [],\n"a": 1}\n]\n', "JSON array"),
        (b"prompt,completion\nhello,world\n", ""),
        (b'{\n"messages": [\n3\n]\n}\n', "several lines"),
        (b"PK\x03\x04" + bytes(range(256)) * 5000, "zip"),
        (b"\xff\xfe{\0}\0\n\0", "UTF-16"),
        (b"\0\n\xff\n" * 5000, "binary"),
    ],
)
def test_check_file_that_is_no_jsonl_gives_one_problem(content: bytes, guess: str) -> None:
    report = validate.check_file([content], frozenset())
    assert [problem.code for problem in report.problems] == ["not_jsonl"]
    assert guess in report.problems[0].message
    assert report.n_errors == 1


def test_check_file_empty_has_too_few_examples() -> None:
    assert [problem.code for problem in validate.check_file([], frozenset()).problems] == ["too_few_examples"]


def test_check_file_warnings_do_not_make_it_invalid() -> None:
    report = check(*[GOOD] * 9, GOOD.replace(b"}]}", b'}], "source": "web"}'))
    assert [problem.severity for problem in report.problems] == [Severity.WARNING]
    assert report.valid
