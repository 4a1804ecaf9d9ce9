"""The campaign's results as tables: by size of the set, the best settings first."""

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """A results file, which need not exist; of a line that was torn nothing is kept."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def line(row: Row) -> str:
    """A setting: its figure is the held-out loss after its last epoch."""
    if row["verdict"] != "succeeded":
        return f"| {row['rows']} | {row['batch_size']} | {row['n_epochs']} | {row['multiplier']:g} | failed | | | |"
    before = " ".join(f"{loss:.3f}" for loss in row["held_out"][:-1])
    return (
        f"| {row['rows']} | {row['batch_size']} | {row['n_epochs']} | {row['multiplier']:g} | {row['steps']} "
        f"| {row['held_out'][-1]:.4f} | {row['accuracy'][-1]:.3f} | {row['training'][-1]:.3f} | {before} |"
    )


def lines(rows: Sequence[Row]) -> list[str]:
    """Markdown: a table for each set."""
    found: list[str] = []
    for data, own in groupby(sorted(rows, key=lambda row: str(row["data"])), key=lambda row: row["data"]):
        found += [
            "",
            f"{data}",
            "",
            "| rows | batch_size | n_epochs | multiplier | steps | held-out loss | token accuracy "
            "| training loss, last epoch | held-out after the epochs before |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        found += map(line, sorted(own, key=_order))
    return found


def _order(row: Row) -> tuple[int, float]:
    return row["rows"], row["held_out"][-1] if row["verdict"] == "succeeded" else float("inf")
