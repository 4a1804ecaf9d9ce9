"""Equal seeds give equal bytes whatever hands out the memory and however busy the machine is."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import pytest

from luthier.run_directory.run_directory import RunDirectory
from repository import CLIPPY
from runs import TARGETS, MakeRun, contents, events

EMBEDDED = "smollm2-135m-instruct"
KINDS: dict[str, dict[str, str]] = {
    # Fresh and freed memory is filled: whoever reads what it did not write computes something else.
    "filled": {"MALLOC_PERTURB_": "165", "PYTHONMALLOC": "malloc"},
    "no reuse": {"MALLOC_MMAP_THRESHOLD_": "4096", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_ARENA_MAX": "1"},
    "kept": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(64 << 20)},
}
PRELOADED = ("tcmalloc_minimal", "tcmalloc", "jemalloc")


def train(run: RunDirectory, environment: dict[str, str]) -> dict[str, bytes]:
    """What a trainer with these variables makes of the run."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "LD_PRELOAD"))}
    with run.log.open("ab") as log:
        command = [sys.executable, "-m", "luthier.trainer", str(run.path)]
        subprocess.run(command, env=clean | environment, stdout=log, stderr=log, check=True)
    assert events(run)[-1]["kind"] == "succeeded", run.log.read_text()
    assert "cannot be preloaded" not in run.log.read_text()
    return contents(run)


@contextmanager
def busy_machine() -> Iterator[None]:
    """A process per core that computes for as long as this lasts."""
    burn = [sys.executable, "-c", "while True: sum(range(10**6))"]
    burners = [subprocess.Popen(burn) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def library(name: str) -> str:
    found = os.environ.get(f"LUTHIER_TEST_{name.upper()}") or find_library(name)
    if found is None:
        pytest.skip(f"lib{name} is not on this machine, nor named by LUTHIER_TEST_{name.upper()}")
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, dict[str, bytes]]:
    """What plain runs ended in, by what they trained: made once, compared often."""
    return {}


def calm(expected: dict[Any, dict[str, bytes]], make_run: MakeRun, what: str, **spec: Any) -> dict[str, bytes]:
    if what not in expected:
        expected[what] = train(make_run("calm", **spec), {})
    return expected[what]


# Two threads and validation: all that a run computes.
TINY: dict[str, Any] = {"valid": CLIPPY.read_bytes(), "n_epochs": 1, "threads": 2}


@pytest.mark.parametrize("environment", KINDS.values(), ids=KINDS.keys())
def test_train_under_other_settings_of_malloc_gives_equal_bytes(
    make_run: MakeRun, expected: dict[Any, dict[str, bytes]], environment: dict[str, str]
) -> None:
    plain = calm(expected, make_run, "tiny", **TINY)
    assert train(make_run("other", **TINY), environment) == plain


@pytest.mark.parametrize("name", PRELOADED)
def test_train_under_another_allocator_gives_equal_bytes(
    make_run: MakeRun, expected: dict[Any, dict[str, bytes]], name: str
) -> None:
    preload = library(name)
    plain = calm(expected, make_run, "tiny", **TINY)
    assert train(make_run("other", **TINY), {"LD_PRELOAD": preload}) == plain


def test_train_on_a_busy_machine_gives_equal_bytes(make_run: MakeRun, expected: dict[Any, dict[str, bytes]]) -> None:
    plain = calm(expected, make_run, "tiny", **TINY)
    with busy_machine():
        assert train(make_run("busy", **TINY), {}) == plain


@pytest.mark.model
@pytest.mark.timeout(2400)
def test_train_the_embedded_model_filled_memory_and_busy_machine_give_equal_bytes(
    make_run: MakeRun, base_folder: Path
) -> None:
    spec: dict[str, Any] = {
        "base_model": EMBEDDED,
        "base_folder": base_folder,
        "context_tokens": 8192,
        "n_epochs": 1,
        "lora": {"rank": 16, "alpha": 32, "targets": TARGETS},
        "threads": None,
    }
    plain = train(make_run("plain", **spec), {})
    with busy_machine():
        assert train(make_run("other", **spec), KINDS["filled"]) == plain
    for name in PRELOADED:
        preload = os.environ.get(f"LUTHIER_TEST_{name.upper()}") or find_library(name)
        if preload is not None:
            assert train(make_run(name, **spec), {"LD_PRELOAD": preload}) == plain
