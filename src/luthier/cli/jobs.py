"""luthier jobs: create and watch, list, show, events, checkpoints, attempts, cancel, pause, resume, plot, losses."""

import csv
import re
import time
from pathlib import Path
from typing import Annotated, Any, assert_never

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from luthier.cli import client, files
from luthier.cli.screen import EARLY_STOP, AsJson, fail, print_objects, screen, table
from luthier.core.states import Method

app = typer.Typer(help="Fine-tune: create jobs and see what they did.", no_args_is_help=True)
POLL_S = 2.0
"""Each look takes a little of the cores that the training needs."""
ENDED = {"succeeded", "failed", "cancelled", "paused"}
"""Where watching ends: nothing more comes by itself."""
LOSSES_FILE = "Completed example losses file: "
"""How a job's event names that file."""
_STEPS = re.compile(r"(\d+) steps\.$")


@app.command()
def create(
    model: Annotated[str, typer.Option(help="A base model, fine-tuned model or checkpoint.")],
    data: Annotated[str, typer.Option(help="Training rows: a local JSONL file, or the id of an uploaded one.")],
    validation: Annotated[str | None, typer.Option(help="Validation rows, likewise.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the rows; left out: chosen for you.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows per step; left out: chosen for you.")] = None,
    lr_multiplier: Annotated[float | None, typer.Option(help="Factor on the model's own learning rate.")] = None,
    method: Annotated[Method, typer.Option(help="What the rows are: chats, or preference pairs.")] = Method.SUPERVISED,
    beta: Annotated[float | None, typer.Option(help="Of method dpo; left out: 0.1.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed and parameters: same model.")] = None,
    suffix: Annotated[str | None, typer.Option(help="Ends the tuned model's name.")] = None,
    early_stop: Annotated[int | None, typer.Option(help=EARLY_STOP)] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
) -> None:
    """Start a fine-tuning job; prints its id."""
    with client.connected() as api:
        asked = {"n_epochs": epochs, "batch_size": batch_size, "learning_rate_multiplier": lr_multiplier}
        learning = _learning(method, beta, {name: value for name, value in asked.items() if value is not None})
        optional = {"validation_file": _file_id(api, validation), "seed": seed, "suffix": suffix, **learning}
        job = api.fine_tuning.jobs.create(
            model=model,
            training_file=_file_id(api, data) or "",
            **{name: value for name, value in optional.items() if value is not None},
            extra_body=None if early_stop is None else {"early_stopping": {"patience": early_stop}},
        )
        screen.print(job.id, highlight=False)
        if watch:
            follow(api, job.id)


def _learning(method: Method, beta: float | None, asked: dict[str, Any]) -> dict[str, Any]:
    """The fields that say how the job learns: hyperparameters at the root as ever, or a method with its own."""
    match method:
        case Method.SUPERVISED:
            if beta is not None:
                fail("--beta is of --method dpo: it says what a difference in log-probability counts for.")
            return {"hyperparameters": asked}
        case Method.DPO:
            own = asked if beta is None else {"beta": beta, **asked}
            return {"method": {"type": "dpo", "dpo": {"hyperparameters": own}}}
        case _:
            assert_never(method)


@app.command("watch")
def watch_job(job_id: str) -> None:
    """Follow a job to its end with a progress bar."""
    with client.connected() as api:
        follow(api, job_id)


@app.command("list")
def list_jobs(json_: AsJson = False) -> None:
    """List jobs, newest first."""
    with client.connected() as api:
        found = list(api.fine_tuning.jobs.list(limit=100))
    if json_:
        print_objects(job.to_dict(mode="json") for job in found)
        return
    table(("id", "status", "model", "fine-tuned model"), [(j.id, j.status, j.model, j.fine_tuned_model) for j in found])


@app.command()
def show(job_id: str) -> None:
    """Show one job as the API tells it, and the attempts at it."""
    with client.connected() as api:
        told = api.fine_tuning.jobs.retrieve(job_id).model_dump(mode="json")
        screen.print_json(data=told | {"attempts": _attempts(api, job_id)})


@app.command()
def events(
    job_id: str,
    json_: AsJson = False,
    follow_: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended or paused.")] = False,
) -> None:
    """Print a job's events, oldest first."""
    if json_ and follow_:
        fail("--json prints one array, which --follow has no end for: choose one of them.")
    seen: set[str] = set()
    with client.connected() as api:
        while True:
            ended = api.fine_tuning.jobs.retrieve(job_id).status in ENDED  # before the events: none is missed then
            fresh = _fresh(api, job_id, seen)[::-1]
            if json_:
                print_objects(event.to_dict(mode="json") for event in fresh)
                return
            for event in fresh:
                _print_event(event)
            if ended or not follow_:
                return
            time.sleep(POLL_S)


@app.command()
def checkpoints(job_id: str, json_: AsJson = False) -> None:
    """List a job's checkpoints with their metrics."""
    with client.connected() as api:
        found = list(api.fine_tuning.jobs.checkpoints.list(job_id))
    if json_:
        print_objects(checkpoint.to_dict(mode="json") for checkpoint in found)
        return
    names = sorted({name for c in found for name in c.metrics.model_dump(exclude_none=True)} - {"step"})
    rows = []
    for c in found:
        metrics = c.metrics.model_dump()
        rows.append((c.step_number, c.fine_tuned_model_checkpoint, *(_figure(metrics.get(name)) for name in names)))
    table(("step", "model", *names), rows)


@app.command()
def attempts(job_id: str) -> None:
    """List the starts of a job's trainer: how far each came and how it ended, newest first."""
    with client.connected() as api:
        found = _attempts(api, job_id)
    rows = [
        (a["number"], _stamp(a["started_at"]), _stamp(a["ended_at"]), a["end"], a["last_step"], a["message"])
        for a in found
    ]
    table(("attempt", "started", "ended", "end", "last step", "what happened"), rows)


@app.command()
def cancel(job_id: str) -> None:
    """Cancel a job that has not ended."""
    with client.connected() as api:
        screen.print(f"{job_id} {api.fine_tuning.jobs.cancel(job_id).status}", highlight=False)


@app.command()
def pause(job_id: str) -> None:
    """Pause a running job: it finishes its step, saves, and leaves the machine to the next one."""
    with client.connected() as api:
        screen.print(f"{job_id} {api.fine_tuning.jobs.pause(job_id).status}", highlight=False)


@app.command()
def resume(job_id: str) -> None:
    """Resume a paused job."""
    with client.connected() as api:
        screen.print(f"{job_id} {api.fine_tuning.jobs.resume(job_id).status}", highlight=False)


@app.command()
def plot(
    job_id: str,
    output: Annotated[Path, typer.Option("-o", "--output", help="charts.svg or charts.png.")] = Path("charts.svg"),
) -> None:
    """Draw the guide's three charts from a job's result file."""
    from luthier.cli import plot as drawing

    with client.connected() as api:
        job = api.fine_tuning.jobs.retrieve(job_id)
        if not job.result_files:
            fail(f"{job_id} is {job.status} and has no result file yet; it comes when the job has succeeded.")
        text = api.files.content(job.result_files[0]).read().decode()
        steps = [c.step_number for c in api.fine_tuning.jobs.checkpoints.list(job_id)]
    drawing.draw(drawing.read(text), steps, output, title=job.fine_tuned_model or job_id)
    screen.print(f"{output}", highlight=False)


@app.command()
def losses(
    job_id: str,
    worst: Annotated[int, typer.Option(help="How many rows to show.")] = 10,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the whole CSV file there.")] = None,
) -> None:
    """Show the training rows that the model learned least: those with the greatest loss in the last epoch."""
    with client.connected() as api:
        told = (event.message for event in api.fine_tuning.jobs.list_events(job_id, limit=100))
        ids = (text.removeprefix(LOSSES_FILE) for text in told if text.startswith(LOSSES_FILE))
        if (file_id := next(ids, None)) is None:
            fail(f"{job_id} has no file of example losses: it comes when a supervised job has succeeded.")
        text = api.files.content(file_id).read().decode()
    if output is not None:
        output.write_text(text)
    rows = list(csv.DictReader(text.splitlines()))
    rows.sort(key=lambda row: float(row["last_epoch_loss"]), reverse=True)
    table(
        tuple(rows[0]),
        [[_figure(float(v)) if "loss" in name else v for name, v in row.items()] for row in rows[:worst]],
    )


def follow(api: Any, job_id: str) -> Any:
    """Shows events as they come, with a bar over the steps, until the job has ended; fails where the job failed."""
    seen: set[str] = set()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen) as progress:
        task = progress.add_task("waiting", total=None)
        while True:
            job = api.fine_tuning.jobs.retrieve(job_id)
            for event in reversed(_fresh(api, job_id, seen)):
                if event.type == "metrics":
                    progress.update(
                        task, description=f"loss {event.data['train_loss']:.3f}", completed=event.data["step"]
                    )
                    continue
                if (steps := _STEPS.search(event.message)) is not None:
                    progress.update(task, description="training", total=int(steps.group(1)))
                _print_event(event)
            if job.status in ENDED:
                break
            time.sleep(POLL_S)
    if job.status == "paused":
        screen.print(f"{job_id} is paused. To go on: luthier jobs resume {job_id}", highlight=False)
        return job
    if job.status != "succeeded":
        fail(f"{job_id} {job.status}")
    return job


def _attempts(api: Any, job_id: str) -> list[dict[str, Any]]:
    """Every attempt, newest first. The SDK knows nothing of the route, so its plain `get` walks the pages."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        page = api.get(f"/fine_tuning/jobs/{job_id}/attempts?limit=100{after}", cast_to=object)
        found += page["data"]
        if not page["has_more"]:
            return found
        after = f"&after={page['last_id']}"


def _fresh(api: Any, job_id: str, seen: set[str]) -> list[Any]:
    """Events not seen yet, newest first: reads pages only as far back as needed."""
    fresh = []
    for event in api.fine_tuning.jobs.list_events(job_id, limit=100):
        if event.id in seen:
            break
        seen.add(event.id)
        fresh.append(event)
    return fresh


def _print_event(event: Any) -> None:
    screen.print(f"[dim]{time.strftime('%H:%M:%S', time.localtime(event.created_at))}[/] ", end="")
    screen.print(event.message, highlight=False, markup=False)


def _file_id(api: Any, given: str | None) -> str | None:
    """An uploaded file's id as it is; a local file is uploaded first."""
    if given is None or (given.startswith("file-") and not Path(given).exists()):
        return given
    return str(files.send(api, Path(given)).id)


def _stamp(unix_s: int | None) -> str | None:
    return None if unix_s is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"
