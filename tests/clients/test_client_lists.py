"""The lists of packages and of known exceptions, held without bringing any client."""

import json
import re
from pathlib import Path

import environments
import expected
import pytest
import table
from expected import PROGRAMS
from recorder import Sent, astray

GIGABYTES = {"torch", "transformers", "sentence-transformers", "scipy"}
ALLOWED = {"lm-eval": {"transformers"}}
"""lm-eval counts tokens with a tokenizer of transformers, which comes without torch."""


@pytest.mark.parametrize("path", sorted(environments.LISTS.glob("*.txt")), ids=lambda path: path.stem)
def test_list_pins_and_hashes_every_package_and_drags_no_gigabytes(path: Path) -> None:
    entries = [entry for entry in re.split(r"\n(?=\S)", path.read_text()) if entry.strip()]
    for entry in entries:
        assert re.match(r"[a-z0-9.-]+==\S+", entry), entry[:60]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:60]
    assert not {entry.partition("==")[0] for entry in entries} & (GIGABYTES - ALLOWED.get(path.stem, set()))
    assert "://" not in path.read_text()


@pytest.mark.parametrize("name", environments.node_names())
def test_node_list_has_a_hash_for_every_package_and_names_no_host(name: str) -> None:
    text = (environments.LISTS / name / "package-lock.json").read_text()
    packages = {name: entry for name, entry in json.loads(text)["packages"].items() if name}
    assert packages
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert "://" not in text


def test_every_client_has_a_list_and_a_program() -> None:
    assert {environments.of_client(client) for client in PROGRAMS} == set(environments.names())
    for program in PROGRAMS.values():
        assert (Path(__file__).parent / program).exists()


def test_every_client_has_a_place_in_the_tables() -> None:
    assert sorted([*table.ANSWERS, *table.WORKFLOW, *table.OTHERS]) == sorted(PROGRAMS)


def test_step_that_asked_another_route_than_its_column_says_is_found() -> None:
    sent: Sent = {
        "kept": {"chat": {"POST /v1/chat/completions": []}, "batches": {"POST /v1/files": [], "POST /v1/batches": []}},
        "astray": {"tools": {"POST /openai/responses?api-version=x": []}},
        "sent nothing": {"responses": {}},
    }
    assert list(astray(sent)) == ["astray: tools: asked ['/openai/responses']"]


@pytest.mark.parametrize(
    ("operation", "outcome", "surprising"),
    [
        ("chat", "ok", False),
        ("chat", "not in this client", False),
        ("chat", "NotFoundError: gone", True),
        ("completions", "NotFoundError: there is no route POST /v1/completions", False),
        ("completions", "InternalServerError: broke", True),
        ("completions", "ok", True),
        ("completions", "not in this client", False),
    ],
)
def test_exception_is_held_both_ways(
    monkeypatch: pytest.MonkeyPatch, operation: str, outcome: str, surprising: bool
) -> None:
    known = expected.Known("openai-*", "*", "completions", "there is no route", "to come")
    monkeypatch.setattr(expected, "MISSING", [known])
    assert bool(expected.surprises("openai-3.57.0", {"openai sync": {operation: outcome}})) is surprising
