"""What differs between jobs, and how that is printed: side by side where it fits, else a job a line."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from luthier.cli.charts import drawing
from luthier.cli.comparison.job_facts import JobReport
from luthier.cli.screen import figure, say, screen, table

_LEAST_CELLS = 8
"""A column for a job that is narrower is of no use: then jobs are the rows."""
_SHORT_CELLS = 20
"""The longest value that is a column where jobs are the rows."""


def names_of_facts(reports: Sequence[JobReport]) -> list[str]:
    """Every fact that one of the jobs has, in the order of the first that has it."""
    return list(dict.fromkeys(name for report in reports for name in report.facts))


def differing(reports: Sequence[JobReport]) -> list[str]:
    """The facts that are not the same in all of the jobs; one that a job lacks is None there."""
    return [
        name
        for name in names_of_facts(reports)
        if any(report.facts.get(name) != reports[0].facts.get(name) for report in reports)
    ]


def print_facts(reports: Sequence[JobReport], names: Sequence[str]) -> None:
    """Prints the facts of the jobs as a table; in a pipe a line for each fact, its cells in the order of the jobs."""
    cells = {name: [shown(name, report.facts.get(name)) for report in reports] for name in names}
    if not screen.is_terminal:
        table(("fact", *drawing.MARKERS[: len(reports)]), [("job", *(r.id for r in reports))])
        table(("fact", *drawing.MARKERS[: len(reports)]), [(name, *row) for name, row in cells.items()])
        return
    room = (screen.width - max(map(len, names), default=0)) // len(reports) - 2
    markers = drawing.MARKERS[: len(reports)]
    limit = room if room >= _LEAST_CELLS else _SHORT_CELLS
    short = [name for name in names if max(map(len, map(str, cells[name]))) <= limit]
    if short and room >= _LEAST_CELLS:
        table(("", *markers), [(name, *(cell or "-" for cell in cells[name])) for name in short])
    elif short:
        rows = zip(markers, *([cell or "-" for cell in cells[name]] for name in short), strict=True)
        table(("", *short), list(rows))
    for name in names:
        if name not in short:
            say(name)
            table_of_values(markers, cells[name])


def table_of_values(markers: str, cells: Sequence[str | None]) -> None:
    """Prints long values a line each, under one another, with the jobs that have them."""
    by_value = sorted(zip(cells, markers, strict=True), key=lambda pair: (cells.index(pair[0]), pair[1]))
    groups = [(cell, [marker for _, marker in pairs]) for cell, pairs in groupby(by_value, key=lambda pair: pair[0])]
    for cell, own in groups:
        say(f"  {' '.join(own)}  {cell or '-'}")


def shown(name: str, value: Any) -> str | None:
    """A value as people read it; None stays None."""
    if isinstance(value, float):
        return figure(value) if ("loss" in name or "accuracy" in name or "reward" in name) else f"{value:g}"
    if isinstance(value, dict | list):
        return ", ".join(_flat(value))
    return None if value is None else str(value)


def _flat(value: dict[str, Any] | list[Any]) -> Iterator[str]:
    """The items of a list, and those of an object as name=value."""
    if isinstance(value, dict):
        yield from (f"{name}={item}" for name, item in value.items())
    else:
        yield from map(str, value)
