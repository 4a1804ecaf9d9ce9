"""luthier jobs compare: the losses of jobs in one chart, and a table of what differs. `jobs` registers the command."""

from collections.abc import Sequence
from typing import Annotated

import typer

from luthier.cli import client
from luthier.cli.charts import drawing, live_chart, metrics
from luthier.cli.charts.drawing import Line
from luthier.cli.comparison import differences, job_facts, job_names
from luthier.cli.comparison.job_facts import JobReport
from luthier.cli.completion import candidates
from luthier.cli.screen import OneAsJson, Quiet, fail, present, say, screen, table, waiting

_CALLS_AT_ONCE = 8
_ROWS = 12
_SHORT_ID = 14
"""The beginning of an id in the legend; the whole one is in the table above."""
JobNames = Annotated[
    list[str],
    typer.Argument(
        metavar="JOB JOB ...",
        help="Ids, beginnings of ids that only one job has, or names of fine-tuned models.",
        autocompletion=candidates.jobs,
    ),
]
Metric = Annotated[
    str, typer.Option(help="Column of results.csv to draw.", autocompletion=lambda: list(metrics.columns()))
]


def compare(
    jobs: JobNames,
    metric: Metric = "train_loss",
    all_: Annotated[bool, typer.Option("--all", help="Also show what is the same.")] = False,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare jobs: a chart of their losses, and a table of what differs.

    The chart is drawn in a terminal only. --quiet prints the names of what differs.
    """
    if metric not in metrics.columns():
        raise typer.BadParameter(f"is no column: {', '.join(metrics.columns())}.", param_hint="--metric")
    if len(set(jobs)) < 2 or len(jobs) > len(drawing.MARKERS):
        raise typer.BadParameter(f"name from 2 to {len(drawing.MARKERS)} different jobs.", param_hint="JOB")
    reports = _read(jobs, metric)
    differ = differences.differing(reports)
    value = {"metric": metric, "differs": differ, "jobs": [_as_dict(report, metric) for report in reports]}
    names = differences.names_of_facts(reports) if all_ else differ
    present(value, differ, lambda: _print(reports, names, metric), json_, quiet)


def _read(names: Sequence[str], metric: str) -> list[JobReport]:
    """The jobs in the order of their names, read side by side. Ends the command if only one job is meant."""
    from concurrent.futures import ThreadPoolExecutor

    with client.connected() as api, waiting("reading the jobs"):
        ids = job_names.resolve(api, names)
        if len(ids) < 2:
            fail(f"All of these names mean {ids[0]}. Name at least two jobs.", code="one_job")
        with ThreadPoolExecutor(_CALLS_AT_ONCE) as calls:
            return list(calls.map(lambda id: job_facts.read(api, id, metric), ids))


def _as_dict(report: JobReport, metric: str) -> dict[str, object]:
    """A job as a JSON object: its facts, and the points of the metric as [step, value]."""
    points = [[int(step), value] for step, value in report.metrics.get(metric, [])]
    return {"id": report.id, **report.facts, "points": points}


def _print(reports: Sequence[JobReport], names: Sequence[str], metric: str) -> None:
    """Prints jobs, chart and table."""
    if screen.is_terminal:
        rows = [(marker, r.id, r.status) for marker, r in zip(drawing.MARKERS, reports, strict=False)]
        table(("", "job", "status"), rows)
        for line in drawing.draw(
            _lines(reports, metric), screen.width, _ROWS, live_chart.look_of(screen), None, metric
        ):
            screen.print(line)
    if names:
        differences.print_facts(reports, names)
    else:
        say("Nothing differs.")


def _lines(reports: Sequence[JobReport], metric: str) -> list[Line]:
    """A line for each job, with the letter and the colour of its place in the command line."""
    styles = drawing.STYLES
    return [
        Line(f"{report.id[:_SHORT_ID]} ({marker})", marker, styles[i % len(styles)], report.metrics.get(metric, []))
        for i, (marker, report) in enumerate(zip(drawing.MARKERS, reports, strict=False))
    ]
