"""luthier jobs plot and losses: charts and per-example losses of a succeeded job. `jobs` registers both commands."""

import csv
from pathlib import Path
from typing import Annotated

import typer

from luthier.cli import client
from luthier.cli.charts import metrics
from luthier.cli.commands import files, watch
from luthier.cli.completion.names import JobId
from luthier.cli.screen import AsJson, OneAsJson, Quiet, fail, figure, present, say, table
from luthier.core.states import EventCode

FORMATS = (".svg", ".png", ".pdf")


def plot(
    job_id: JobId,
    output: Annotated[Path, typer.Option("-o", "--output", help="Output file: .svg, .png or .pdf.")] = Path(
        "charts.svg"
    ),
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Plot loss, token accuracy and validation of a succeeded job.

    Exit code 1 for a job without a result file. An existing output file is replaced.
    """
    from luthier.cli.charts import figure_file

    if output.suffix.lower() not in FORMATS:
        fail(f"{output} has no format that can be drawn: let it end in {', '.join(FORMATS)}.")
    with client.connected() as api:
        job = api.fine_tuning.jobs.retrieve(job_id)
        if not job.result_files:
            fail(f"{job_id} is {job.status} and has no result file yet; it is written when the job has succeeded.")
        text = files.read_text(api, job.result_files[0])
        steps = [c.step_number for c in api.fine_tuning.jobs.checkpoints.list(job_id)]
    figure_file.draw(metrics.read_results(text), steps, output, title=job.fine_tuned_model or job_id)
    present({"job_id": job_id, "path": f"{output}"}, [output], lambda: say(f"{output}"), json_, quiet)


def losses(
    job_id: JobId,
    worst: Annotated[int, typer.Option(min=1, help="Number of rows to show.")] = 10,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Also write the whole CSV file here.")] = None,
    json_: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show the training rows with the highest loss in the last epoch."""
    with client.connected() as api:
        events = api.fine_tuning.jobs.list_events(job_id, limit=100)
        named = (watch.values(event, EventCode.EXAMPLE_LOSSES_FILE) for event in events)
        if (losses_file := next(filter(None, named), None)) is None:
            fail(f"{job_id} has no file of example losses: it is written when a supervised job has succeeded.")
        text = files.read_text(api, losses_file["file_id"])
    if output is not None:
        output.write_text(text)
    reader = csv.DictReader(text.splitlines())
    rows = sorted(reader, key=lambda row: float(row["last_epoch_loss"]), reverse=True)
    worst_rows = rows[:worst]
    objects = [{name: float(v) if "loss" in name else int(v) for name, v in row.items()} for row in worst_rows]
    cells = [[figure(float(v)) if "loss" in name else v for name, v in row.items()] for row in worst_rows]
    columns = tuple(reader.fieldnames or ())
    present(objects, [row["line"] for row in worst_rows], lambda: table(columns, cells), json_, quiet)
