"""Writes the tables of docs/clients.md from the outcomes that the last run of every client left.

`python tests/clients/table.py` after `make test-clients`, which calls it.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import expected
from environments import CACHE
from recorder import COLUMNS, Sent

Answer = dict[str, Any]
"""What a client's run has left: its `version`, `outcomes` by scope and operation, and what it `sent`."""

OUTCOMES = CACHE / "outcomes"
PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
BEGIN = "<!-- written by tests/clients/table.py -->\n"

ANSWERS = [
    "openai-3.57.0 answers",
    "openai-node answers",
    "openai-agents",
    "openai-agents-js",
    "vercel-ai",
    "pydantic-ai",
    "langchain",
    "instructor answers",
    "semantic-kernel",
    "agent-framework",
    "inspect-ai",
    "lm-eval",
    "smolagents",
]
WORKFLOW = [
    "openai-0.28.1",
    "openai-1.3.9",
    "openai-1.40.0",
    "openai-1.109.1",
    "openai-1.109.1 command line",
    "openai-2.54.0",
    "openai-3.57.0",
    "openai-node",
]
OTHERS = ["azure-mgmt", "llama-index", "litellm", "dspy", "instructor", "wandb"]

SIGNS = (
    "✓ holds · – not in this client, or not its ordinary use · ○ a route still to come · ◇ not served here · "
    "△ a fault of the client, below"
)
ROUTES = ("/chat/completions", "/completions", "/responses", "/embeddings", "/batches")
NODE_TITLES = {"openai-agents-js": "@openai/agents", "vercel-ai": "ai (Vercel)"}


def main() -> None:
    lines = [BEGIN]
    found = {path.stem: json.loads(path.read_text()) for path in sorted(OUTCOMES.glob("*.json"))}
    lines += ["### Answers, client by client\n", SIGNS + "\n", *_matrix(found), "", *_beyond(found)]
    lines += ["\n### What a client sends\n", *_sent_table(found)]
    lines += ["\n### The official SDKs, operation by operation\n", SIGNS + "\n", *_wide(WORKFLOW, found)]
    lines += ["\n### Other clients\n", *(line for client in OTHERS for line in _narrow(client, found[client]))]
    for title, entries in (("still to come", expected.MISSING), ("that are not served", expected.NOT_SERVED)):
        lines += [f"\n### Routes {title}\n" if entries else "", *(f"- {entry.why}." for entry in _unlike(entries))]
    lines += ["\n### Faults of clients\n"]
    lines += [f"- {entry.client}, {entry.operation}: {entry.why}." for entry in expected.QUIRKS]
    text = PAGE.read_text()
    PAGE.write_text(text[: text.index(BEGIN)] + "\n".join(lines) + "\n")


def _matrix(found: dict[str, Answer]) -> list[str]:
    """A row for each client, a column for each step that all have or have not."""
    lines = [_row("", *COLUMNS), _row("---", *[":-:"] * len(COLUMNS))]
    for client in ANSWERS:
        signs = (_sign(client, name, found[client]) for name in COLUMNS)
        lines.append(_row(_title(client, found[client]["version"]), *signs))
    return lines


def _beyond(found: dict[str, Answer]) -> Iterator[str]:
    """How each client of the matrix was driven, and what else it did."""
    for client in ANSWERS:
        answer = found[client]
        more = dict.fromkeys(name for steps in answer["outcomes"].values() for name in steps if name not in COLUMNS)
        others = "".join(f" · {name} {_sign(client, name, answer)}" for name in more)
        yield f"- **{_title(client, answer['version'])}**: {'; '.join(answer['outcomes'])}{others}"


def _sent_table(found: dict[str, Answer]) -> Iterator[str]:
    """For each client and route the addresses that were asked, and every field that a body had."""
    yield _row("", "route", "asked at", "fields")
    yield _row("---", "---", "---", "---")
    for client in ANSWERS:
        for end in ROUTES:
            asked = _asked(found[client]["sent"], end)
            if asked:
                fields = sorted({field for fields in asked.values() for field in fields})
                title = _title(client, found[client]["version"])
                yield _row(title, end, "<br>".join(asked), " ".join(f"`{field}`" for field in fields))


def _asked(sent: Sent, end: str) -> dict[str, list[str]]:
    """The fields by address, without the route itself, of all requests to a route."""
    asked: dict[str, list[str]] = {}
    for route, fields in _requests(sent):
        method, _, target = route.partition(" ")
        path, mark, query = target.partition("?")
        if method == "POST" and max((one for one in ROUTES if path.endswith(one)), key=len, default="") == end:
            asked.setdefault(path.removesuffix(end) + mark + query, []).extend(fields)
    return asked


def _requests(sent: Sent) -> Iterable[tuple[str, list[str]]]:
    return (request for steps in sent.values() for routes in steps.values() for request in routes.items())


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
        elif entry is None:
            signs.add("✗")
        else:
            signs.add("○" if entry in expected.MISSING else "◇" if entry in expected.NOT_SERVED else "△")
    return next(sign for sign in "✗△○◇✓–" if sign in signs)


def _scopes(outcomes: dict[str, object]) -> list[str]:
    return [scope.replace("_", " ") for scope in outcomes]


def _title(client: str, version: str) -> str:
    name = NODE_TITLES.get(client, client.removesuffix(" answers"))
    return name if version in name else f"{name} {version}"


def _unlike(entries: list[expected.Known]) -> list[expected.Known]:
    return list({entry.why: entry for entry in entries}.values())


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
