"""A job's metrics as points by column: from the text of results.csv, which has every step, or from metrics events,
which a job has while it trains.
"""

import csv
import io
import math
from collections.abc import Iterable
from typing import Any

Points = list[tuple[float, float]]
"""Pairs of step and value, by rising step."""
Metrics = dict[str, Points]


def read_results(text: str) -> Metrics:
    """The points of each column of the text of results.csv; an empty cell is no point. Raises ValueError for another
    file.
    """
    from luthier.run_directory.run_directory import RESULT_COLUMNS  # with pydantic, for which help should not wait

    reader = csv.DictReader(io.StringIO(text))
    names = tuple(reader.fieldnames or ())
    if names[: len(RESULT_COLUMNS)] != RESULT_COLUMNS:
        raise ValueError(f"this is no result file: its header must begin with {','.join(RESULT_COLUMNS)}")
    metrics: Metrics = {name: [] for name in names[1:]}
    for row in reader:
        for name, points in metrics.items():
            if row[name]:
                points.append((float(row["step"]), float(row[name])))
    return metrics


def add_event(metrics: Metrics, data: dict[str, Any]) -> None:
    """Adds the points of one metrics event's data. Events must come oldest first; values that are not finite, and steps
    that were there already, as after a resumed run, are left out.
    """
    step = float(data["step"])
    for name, value in data.items():
        if name != "step" and isinstance(value, int | float) and math.isfinite(value):
            points = metrics.setdefault(name, [])
            if not points or points[-1][0] < step:
                points.append((step, float(value)))


def columns() -> tuple[str, ...]:
    """Every column that can be drawn."""
    from luthier.run_directory.run_directory import RESULT_COLUMNS, REWARD_COLUMNS

    return (*RESULT_COLUMNS[1:], *REWARD_COLUMNS)


def read_events(events: Iterable[Any]) -> Metrics:
    """The points of a job's events, oldest first; events of other kinds have none."""
    metrics: Metrics = {}
    for event in events:
        if event.type == "metrics":
            add_event(metrics, event.data)
    return metrics
