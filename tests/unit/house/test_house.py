"""The house rules that a machine can hold: sizes, documents that must stay true."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from repository import ROOT

SOURCES = sorted(path for path in (ROOT / "src" / "luthier").rglob("*.py") if "versions" not in path.parts)
MAX_MODULES = 12
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


def test_folder_holds_at_most_a_dozen_modules() -> None:
    modules = Counter(path.parent.relative_to(ROOT) for path in SOURCES if path.name != "__init__.py")
    assert {folder: count for folder, count in modules.items() if count > MAX_MODULES} == {}


def test_modules_of_one_layer_have_names_of_their_own() -> None:
    """A name is looked up within a layer: `service/jobs/jobs.py` may stand beside `store/queries/jobs.py`."""
    layers: dict[tuple[str, str], list[Path]] = {}
    for path in SOURCES:
        if path.name not in {"__init__.py", "__main__.py"}:
            layers.setdefault((path.relative_to(ROOT / "src" / "luthier").parts[0], path.name), []).append(path)
    assert [str(paths) for paths in layers.values() if len(paths) > 1] == []


def test_test_modules_have_names_of_their_own() -> None:
    """pytest imports a test file by its bare name: of two with one name, a run of both collects only the first."""
    names = Counter(
        path.name for path in (ROOT / "tests").rglob("*.py") if path.name not in {"__init__.py", "conftest.py"}
    )
    assert {name for name, count in names.items() if count > 1} == set()


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


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_file_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.(?:py|cpp|toml))`", page.read_text()))
    roots = (ROOT, ROOT / "src", ROOT / "src" / "luthier", ROOT / "tests")
    assert [name for name in sorted(named) if not any((root / name).exists() for root in roots)] == []


def test_file_that_a_source_names_exists() -> None:
    """By its name alone, and not in the address of another project's page."""
    names = {path.name for top in ("src", "docs", "tests", "bench", "examples") for path in (ROOT / top).rglob("*.*")}
    names |= {path.name for path in ROOT.glob("*.md")}
    sources = [*SOURCES, *(path for form in ("*.h", "*.cpp") for path in (ROOT / "src").rglob(form))]
    named = {
        (path.name, name)
        for path in sources
        for line in path.read_text().splitlines()
        if "https://" not in line
        for name in re.findall(r"\b([A-Za-z_0-9-]+\.(?:py|md))\b", line)
    }
    assert {(path, name) for path, name in named if name not in names} == set()


def test_no_path_of_a_machine_stands_in_the_project() -> None:
    for path in [*SOURCES, *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        assert not re.search(r"/(home|root|work)/", path.read_text()), path


def test_service_starts_without_torch() -> None:
    code = "import sys, luthier.app, luthier.cli.main; print(*{'torch', 'transformers', 'peft'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
