"""The sets of rows that are measured: two real files from outside the project, two that are made here."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import made

Row = dict[str, Any]
LONGEST = 3_000
"""Characters of a row of set orca: about 750 tokens."""


@dataclass(frozen=True, slots=True)
class Set:
    """Rows with the batch size and the number of steps that they are measured with. `rows` reads a data folder."""

    batch_size: int
    steps: int
    note: str
    rows: Callable[[Path], list[Row]]


def plain_chat(row: Row) -> Row:
    """A row with tools as one without: definitions in the system message, a call as the JSON text of the answer.

    The embedded model's template knows no tools, and both trainers are to read the same text.
    """
    system = "You may call these functions by answering with JSON: " + json.dumps(row["tools"])
    messages = [{"role": "system", "content": system}]
    for message in row["messages"]:
        if message["role"] == "system":
            messages[0]["content"] = f"{message['content']}\n\n{system}"
            continue
        calls = [call["function"] for call in message.get("tool_calls", ())]
        messages.append({"role": message["role"], "content": json.dumps(calls) if calls else message["content"]})
    return {"messages": messages}


def apart(name: str, folder: Path, n_held_out: int) -> tuple[list[Row], list[Row]]:
    """Rows to train on, as they are, tools and all, and `n_held_out` others.

    Where a file holds out fewer, the last of the training rows go with them.
    """
    if name == "orca":
        training, held_out = _preferred(folder), []
    else:
        training, held_out = (_read(folder / file) for file in SPLITS[name])
    missing = max(n_held_out - len(held_out), 0)
    kept = len(training) - missing
    return training[:kept], [*held_out, *training[kept:]][:n_held_out]


def _preferred(folder: Path) -> list[Row]:
    """The preferred outputs of preference pairs as chat rows, without the longest ones."""
    pairs = _read(folder / "orca-dpo.valid.jsonl")
    rows = [{"messages": pair["input"]["messages"] + pair["preferred_output"]} for pair in pairs]
    return [row for row in rows if sum(len(message["content"]) for message in row["messages"]) <= LONGEST]


def _gsm8k(folder: Path) -> list[Row]:
    return _read(folder / "gsm8k-chat.train.jsonl")


def _stock(folder: Path) -> list[Row]:
    return [plain_chat(row) for row in _read(folder / "stock-toolcall.train.jsonl")]


def _long(folder: Path) -> list[Row]:
    return made.long_rows()


def _shared(folder: Path) -> list[Row]:
    return made.shared_rows()


def _read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


SETS = {
    "gsm8k": Set(8, 6, "gsm8k-chat.train.jsonl", _gsm8k),
    "stock": Set(
        8, 4, "stock-toolcall.train.jsonl, tools and calls as JSON text in plain chat for all trainers", _stock
    ),
    "long": Set(4, 2, "made: several turns, 1,000 to 3,500 tokens a row", _long),
    "shared": Set(8, 4, "made: short rows behind one system prompt of about 350 tokens", _shared),
}

SPLITS = {
    "gsm8k": ("gsm8k-chat.train.jsonl", "gsm8k-chat.valid.jsonl"),
    "stock": ("stock-toolcall.train.jsonl", "stock-toolcall.valid.jsonl"),
}
