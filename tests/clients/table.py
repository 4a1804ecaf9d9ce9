"""Writes the tables of docs/clients.md from the outcomes that the last run of every client left.

`python tests/clients/table.py` after `make test-clients`, which calls it.
"""

import json
from pathlib import Path
from typing import Any

import expected
from environments import CACHE

Answer = dict[str, Any]
"""What a client's run has left: its `version`, and `outcomes` by scope and operation."""

OUTCOMES = CACHE / "outcomes"
PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
BEGIN = "<!-- written by tests/clients/table.py -->\n"

GROUPS = {
    "The official Python SDK": [
        "openai-0.28.1",
        "openai-1.3.9",
        "openai-1.40.0",
        "openai-1.109.1",
        "openai-1.109.1 command line",
        "openai-2.54.0",
        "openai-3.57.0",
        "openai-node",
    ],
    "Others": ["azure-mgmt", "langchain", "llama-index", "litellm", "dspy", "instructor", "wandb"],
}
SIGNS = "✓ holds · – this client has no such call · ○ a route still to come · △ a fault of the client, below"


def main() -> None:
    lines = [BEGIN]
    found = {path.stem: json.loads(path.read_text()) for path in sorted(OUTCOMES.glob("*.json"))}
    first, others = GROUPS.values()
    lines += ["### The official SDKs, operation by operation\n", SIGNS + "\n", *_wide(first, found)]
    lines += ["\n### Other clients\n", *(line for client in others for line in _narrow(client, found[client]))]
    lines += ["\n### Routes still to come\n", *(f"- {entry.why}" for entry in _unlike(expected.MISSING))]
    lines += ["\n### Faults of clients\n"]
    lines += [f"- {entry.client}, {entry.operation}: {entry.why}." for entry in expected.QUIRKS]
    text = PAGE.read_text()
    PAGE.write_text(text[: text.index(BEGIN)] + "\n".join(lines) + "\n")


def _wide(clients: list[str], found: dict[str, Answer]) -> list[str]:
    operations: dict[str, None] = {}
    most = sorted(clients, key=lambda client: -sum(map(len, found[client]["outcomes"].values())))
    for client in most:  # who does the most gives the order of the work
        for scope in found[client]["outcomes"].values():
            operations |= dict.fromkeys(scope)
    titles = [_title(client, found[client]["version"]) for client in clients]
    scopes = ["<br>".join(_scopes(found[client]["outcomes"])) for client in clients]
    lines = [_row("", *titles), _row("---", *[":-:"] * len(clients)), _row("driven as", *scopes)]
    return lines + [_row(name, *(_sign(client, name, found[client]) for client in clients)) for name in operations]


def _narrow(client: str, answer: Answer) -> list[str]:
    lines = []
    for scope, operations in answer["outcomes"].items():
        signs = " · ".join(f"{name} {_sign(client, name, {'outcomes': {scope: operations}})}" for name in operations)
        lines.append(f"- **{_title(client, answer['version'])}**, {scope}: {signs}")
    return lines


def _sign(client: str, operation: str, answer: Answer) -> str:
    """One sign for all scopes that try the operation: the worst."""
    signs = set()
    for scope, operations in answer["outcomes"].items():
        outcome = operations.get(operation, expected.ABSENT)
        entry = expected.known(client, scope, operation)
        if outcome == expected.OK:
            signs.add("✓")
        elif outcome == expected.ABSENT:
            signs.add("–")
        else:
            signs.add("✗" if entry is None else "○" if entry in expected.MISSING else "△")
    return next(sign for sign in "✗△○✓–" if sign in signs)


def _scopes(outcomes: dict[str, object]) -> list[str]:
    return [scope.replace("_", " ") for scope in outcomes]


def _title(client: str, version: str) -> str:
    return client if version in client else f"{client} {version}"


def _unlike(entries: list[expected.Known]) -> list[expected.Known]:
    return list({entry.why: entry for entry in entries}.values())


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
