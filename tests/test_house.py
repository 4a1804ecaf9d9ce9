"""The house rules that a machine can hold: sizes, documents that must stay true."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for path in (ROOT / "src" / "luthier").rglob("*.py") if "versions" not in path.parts)
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
LONG_FUNCTIONS = {"train": 120}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_and_its_functions_are_of_readable_size(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name not in {"add", "build_router"}:
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= LONG_FUNCTIONS.get(node.name, MAX_FUNCTION_LINES), node.name
    assert ast.get_docstring(ast.parse(text)), "a file says its one job in its first line"


def test_readme_names_every_module() -> None:
    readme = (ROOT / "README.md").read_text()
    tree = readme[readme.index("```\nMakefile") :]
    for path in SOURCES:
        if path.name != "__init__.py" and "migrations" not in path.parts:
            assert re.search(rf"\b{re.escape(path.name)}", tree), path


def test_operating_names_every_setting() -> None:
    from luthier.settings import Settings

    text = (ROOT / "docs" / "operating.md").read_text()
    for name in Settings.model_fields:
        assert f"`LUTHIER_{name.upper()}`" in text


def test_conformance_rows_name_tests_that_exist() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", (ROOT / "docs" / "conformance.md").read_text(), re.M)[2:]
    assert len(rows) > 20
    for claim, tests in rows:
        named = re.findall(r"`([a-z_/0-9]+\.py)::(test_\w+)`", tests)
        assert named, f"no test for: {claim}"
        for file, test in named:
            assert f"def {test}(" in (ROOT / "tests" / file).read_text(), (claim, test)


def test_no_path_of_a_machine_stands_in_the_project() -> None:
    for path in [*SOURCES, *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        assert not re.search(r"/(home|root|work)/", path.read_text()), path


def test_service_starts_without_torch() -> None:
    code = "import sys, luthier.app, luthier.cli.main; print(*{'torch', 'transformers', 'peft'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
