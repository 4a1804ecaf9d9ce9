"""luthier jobs events, checkpoints, attempts: what belongs to one job. `jobs` registers the commands."""

import time
from typing import Annotated, Any

import typer

from luthier.cli import client
from luthier.cli.commands import watch
from luthier.cli.completion.names import JobId
from luthier.cli.screen import AsJson, Quiet, fail, figure, present, screen, stamp, table


def events(
    job_id: JobId,
    json_: AsJson = False,
    quiet: Quiet = False,
    follow_: Annotated[
        bool, typer.Option("--follow", "-f", help="Continue until the job has ended or is paused.")
    ] = False,
) -> None:
    """Print a job's events, oldest first."""
    if json_ and follow_:
        fail("--json prints one array, --follow has no end: give only one of them.", code="usage")
    seen: set[str] = set()
    with client.connected() as api:
        while True:
            # The status before the events: none is missed then.
            ended = api.fine_tuning.jobs.retrieve(job_id).status in watch.ENDED
            fresh = watch.unseen(api, job_id, seen)[::-1]
            _present_events(fresh, json_, quiet)
            if json_ or ended or not follow_:
                return
            time.sleep(watch.POLL_S)


def _present_events(fresh: list[Any], json_: bool, quiet: bool) -> None:
    """Prints events: time and message of each, the SDK's objects as JSON, or ids."""

    def print_lines() -> None:
        for event in fresh:
            watch.print_event(event, screen)

    present([event.to_dict(mode="json") for event in fresh], [event.id for event in fresh], print_lines, json_, quiet)


def checkpoints(job_id: JobId, json_: AsJson = False, quiet: Quiet = False) -> None:
    """List a job's checkpoints with their metrics."""
    with client.connected() as api:
        found = list(api.fine_tuning.jobs.checkpoints.list(job_id))
    names = sorted({name for c in found for name in c.metrics.model_dump(exclude_none=True)} - {"step"})
    rows = []
    for c in found:
        metrics = c.metrics.model_dump()
        rows.append((c.step_number, c.fine_tuned_model_checkpoint, *(figure(metrics.get(name)) for name in names)))
    objects = [checkpoint.to_dict(mode="json") for checkpoint in found]
    columns, shown = ("step", "model", *names), ("step", *names, "model")
    models = [c.fine_tuned_model_checkpoint for c in found]
    present(objects, models, lambda: table(columns, rows, shown), json_, quiet)


def attempts(job_id: JobId, json_: AsJson = False, quiet: Quiet = False) -> None:
    """List a job's training attempts, newest first: last step, and how each ended."""
    with client.connected() as api:
        found = client.attempts(api, job_id)
    rows = [
        (a["number"], stamp(a["started_at"]), stamp(a["ended_at"]), a["end"], a["last_step"], a["message"])
        for a in found
    ]
    columns = ("attempt", "started", "ended", "end", "last step", "message")
    present(found, [attempt["number"] for attempt in found], lambda: table(columns, rows), json_, quiet)
