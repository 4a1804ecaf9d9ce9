"""The corpus of faulty files: all that is wrong is found, at its line and place, and nothing else."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from corpus import CASES, CLEAN
from corpus.case import Case
from luthier.core.states import Method
from luthier.data.checks import validate
from luthier.data.problems.problem import Severity
from repository import ROOT

SOURCES = Path(validate.__file__).parents[1]
REAL = ROOT.parent / "shared" / "data"
OF_OTHERS = {
    "duplicates.py",
    "system_prompts.py",
    "secret_scan.py",
    "special_tokens.py",
    "statistics.py",
    "dataset_checks.py",
    "writing_systems.py",
    "participant_names.py",
    "renderer.py",
}
"""What these find shows only when rows are seen together, or as tokens; their own tests cover it."""


@pytest.mark.parametrize("case", [*CASES, *CLEAN], ids=lambda case: case.id)
def test_corpus_file_has_exactly_its_problems(case: Case) -> None:
    found = [(one.line or 0, one.path, one.code, one.severity) for one in case.report().problems]
    assert [line for line, *_ in found] == sorted(line for line, *_ in found)
    assert sorted(found) == sorted((line or 0, path, code, severity) for code, line, path, severity in case.expected)


def test_corpus_is_of_a_hundred_and_fifty_files_and_more() -> None:
    assert len(CASES) >= 150
    assert all(case.expected for case in CASES)
    assert max(Counter(case.id for case in [*CASES, *CLEAN]).values()) == 1


ARGUMENT = {
    "error": 1,
    "warning": 1,
    "_note": 1,
    "_stop": 0,
    "_problem": 2,
    "_file_problem": 0,
    "Problem": 2,
    "Fault": 2,
}
"""Which argument of what makes a problem is its code."""


def codes_of_the_code() -> set[str]:
    """Every code of a problem, as it stands in the modules of the reader."""
    found: set[str] = set()
    for path in SOURCES.rglob("*.py"):
        if path.name in OF_OTHERS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in ARGUMENT and len(node.args) > ARGUMENT[name]:
                    found |= words(node.args[ARGUMENT[name]])
            elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and path.name == "json_faults.py":
                found |= words(node.value.elts[0])
    return found


def words(node: ast.expr) -> set[str]:
    """The words that an expression can be: one, or either of two."""
    if isinstance(node, ast.IfExp):
        return words(node.body) | words(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def test_corpus_has_every_code_of_the_reader() -> None:
    of_corpus = {code for case in CASES for code, *_ in case.expected}
    assert len(codes_of_the_code()) > 60
    assert codes_of_the_code() - of_corpus == set()


def test_doctor_page_has_every_code_of_the_reader_and_no_other() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text()
    table = page[page.index("## What the reader knows") : page.index("## Others on the same files")]
    rows = [row for row in table.splitlines() if row.startswith("| `")]
    assert {code for row in rows for code in re.findall(r"`([a-z0-9_]+)`", row.split("|")[1])} == codes_of_the_code()


def test_corpus_messages_name_no_text_of_a_row() -> None:
    texts = ("Jupiter", "forecast", "Ulm", "source", "wieght", "street", "example.org")
    for case in CASES:
        for problem in case.report().problems:
            assert not any(text in problem.sentence() for text in texts), (case.id, problem.sentence())


def test_corpus_messages_say_what_and_how_to_mend_it() -> None:
    for case in CASES:
        for problem in case.report().problems:
            assert problem.message.endswith((".", "?")), problem
            assert problem.fix.endswith((".", ">")), problem


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files lie beside the project, and only on some machines")
@pytest.mark.parametrize(("name", "codes"), [("chartqa-vision", {"image_not_supported"}), ("gsm8k-chat", set()),
                                             ("stock-toolcall", set()), ("marv-multiturn", set()),
                                             ("clippy", set()), ("orca-dpo", set())])  # fmt: skip
def test_real_files_are_clean_or_have_true_warnings(name: str, codes: set[str]) -> None:
    method = Method.DPO if name == "orca-dpo" else Method.SUPERVISED
    paths = sorted(REAL.glob(f"{name}.*.jsonl"))
    assert paths
    for path in paths:
        report = validate.check_file([path.read_bytes()], None, 1, method)
        assert {problem.code for problem in report.problems} == codes
        assert {problem.severity for problem in report.problems} <= {Severity.WARNING}
        assert report.n_examples == report.n_rows
