"""luthier jobs: create and watch, list, show, cancel, pause, resume, delete; its other commands are in modules of their
own.
"""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, assert_never
from urllib.parse import quote

import typer

from luthier.cli import client
from luthier.cli.command_line import CommandGroup
from luthier.cli.commands import files, job_parts, results, watch
from luthier.cli.comparison import compare
from luthier.cli.completion import candidates
from luthier.cli.completion.names import JobId, JobIds
from luthier.cli.data import check
from luthier.cli.screen import (
    AsJson,
    OneAsJson,
    Quiet,
    advise,
    delete_each,
    fail,
    figure,
    present,
    present_object,
    say,
    stamp,
    table,
    waiting,
)
from luthier.cli.training import recipe_options
from luthier.core.states import Method
from luthier.core.training.hyperparameters import MAX_EPOCHS
from luthier.core.training.recipe import Recipe

if TYPE_CHECKING:  # imported on use: help should not wait for it
    import openai

app = CommandGroup("Create, watch, list and control fine-tuning jobs.")
_CALLS_AT_ONCE = 8


@app.command()
@recipe_options.with_recipe_options
def create(
    model: Annotated[
        str,
        typer.Option(help="Base model, fine-tuned model or checkpoint to train.", autocompletion=candidates.models),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="Training file: a local JSONL file, or the id of an uploaded one.",
            autocompletion=candidates.training_data,
        ),
    ],
    validation: Annotated[
        str | None,
        typer.Option(help="Validation file: likewise a path or an id.", autocompletion=candidates.training_data),
    ] = None,
    epochs: recipe_options.Epochs = None,
    batch_size: recipe_options.BatchSize = None,
    lr_multiplier: recipe_options.LearningRateMultiplier = None,
    method: recipe_options.TrainingMethod = Method.SUPERVISED,
    beta: recipe_options.Beta = None,
    seed: recipe_options.Seed = None,
    suffix: Annotated[str | None, typer.Option(help="Suffix of the fine-tuned model's name.")] = None,
    early_stop: recipe_options.EarlyStop = None,
    watch_: Annotated[
        bool, typer.Option("--watch", help="Follow the job until it ends, then print its model.")
    ] = False,
    json_: OneAsJson = False,
    quiet: Quiet = False,
    *,
    recipe: Recipe,
) -> None:
    """Create a fine-tuning job and print its id. Local files are validated and uploaded first."""
    if json_ and watch_:
        fail("--json prints the job as created, --watch follows it until it ends: give only one of them.", code="usage")
    recipe_options.check_beta(method, beta)
    own = recipe_options.extension(recipe, epochs, MAX_EPOCHS)
    extra = ({"luthier": own} if own else {}) | (
        {"early_stopping": {"patience": early_stop}} if early_stop is not None else {}
    )
    epochs = None if "n_epochs" in own else epochs
    with client.connected() as api:
        _require_ready(api, model)
        check.require_trainable(_local_file(data), _local_file(validation), method)
        asked = {"n_epochs": epochs, "batch_size": batch_size, "learning_rate_multiplier": lr_multiplier}
        learning = _learning(method, beta, {name: value for name, value in asked.items() if value is not None})
        optional = {"validation_file": _file_id(api, validation), "seed": seed, "suffix": suffix, **learning}
        job = api.fine_tuning.jobs.create(
            model=model,
            training_file=_file_id(api, data) or "",
            **{name: value for name, value in optional.items() if value is not None},
            extra_body=extra or None,
        )
        present(job.to_dict(mode="json"), [job.id], lambda: say(job.id), json_, quiet)
        if watch_:
            watch.follow(api, job.id, json_=False)


def _require_ready(api: "openai.OpenAI", model: str) -> None:
    """Ends the command, before gigabytes are uploaded, if the model's weights are not on the service's machine; the
    service's error for an unknown model ends it in `client.connected`.
    """
    entry = api.models.retrieve(model).to_dict(mode="json")
    if not entry.get("ready", True):
        base = entry.get("model") or model
        fail(
            f"The weights of {model} are not on the service's machine yet. Run there: luthier models pull {base}",
            code="model_not_ready",
            param="model",
        )


def _learning(method: Method, beta: float | None, asked: dict[str, Any]) -> dict[str, Any]:
    """The fields of the body that say how the job learns, as the vendor's SDKs send them: hyperparameters at the root
    for supervised, else a method with its own.
    """
    match method:
        case Method.SUPERVISED:
            return {"hyperparameters": asked}
        case Method.DPO:
            own = asked if beta is None else {"beta": beta, **asked}
            return {"method": {"type": "dpo", "dpo": {"hyperparameters": own}}}
        case _:
            assert_never(method)


@app.command("watch")
def watch_job(job_id: JobId, json_: OneAsJson = False, quiet: Quiet = False) -> None:
    """Follow a job until it ends, with a progress bar and a chart of its losses, and print its model.

    With --json it prints the job as it has ended. Bar and chart are drawn in a terminal only.
    """
    with client.connected() as api:
        watch.follow(api, job_id, json_)


@app.command("list")
def list_jobs(json_: AsJson = False, quiet: Quiet = False) -> None:
    """List jobs, newest first, with the loss at their last checkpoint."""
    from concurrent.futures import ThreadPoolExecutor

    with client.connected() as api, waiting("reading the jobs"):
        found = list(api.fine_tuning.jobs.list(limit=100))
        if json_ or quiet:
            losses: list[float | None] = [None] * len(found)
        else:
            with ThreadPoolExecutor(_CALLS_AT_ONCE) as calls:
                losses = list(calls.map(lambda job: _loss(api, job), found))
    rows = [
        (j.id, j.status, j.model, j.fine_tuned_model, stamp(j.created_at), _took(j), figure(loss))
        for j, loss in zip(found, losses, strict=True)
    ]
    columns = ("id", "status", "model", "fine-tuned model", "created", "took", "loss")
    shown = ("id", "status", "created", "took", "loss", "fine-tuned model", "model")
    objects = [job.to_dict(mode="json") for job in found]
    present(objects, [job.id for job in found], lambda: table(columns, rows, shown), json_, quiet)


def _loss(api: "openai.OpenAI", job: Any) -> float | None:
    """The training loss at the job's newest checkpoint, from one request; None if it has no checkpoint
    or was deleted.
    """
    import openai

    if job.status in ("validating_files", "queued"):
        return None
    try:
        newest = next(iter(api.fine_tuning.jobs.checkpoints.list(job.id, limit=1)), None)
    except openai.NotFoundError:  # deleted since the list was made
        return None
    return None if newest is None else newest.metrics.train_loss


def _took(job: Any) -> str | None:
    """From its creation to its end, h:mm:ss; None before."""
    return None if job.finished_at is None else str(timedelta(seconds=job.finished_at - job.created_at))


@app.command()
def show(job_id: JobId, json_: OneAsJson = False, quiet: Quiet = False) -> None:
    """Show a job and its training attempts as JSON."""
    with client.connected() as api:
        job = api.fine_tuning.jobs.retrieve(job_id)
        attempts = client.attempts(api, job_id)
    present_object(job.model_dump(mode="json") | {"attempts": attempts}, job.id, json_, quiet)


@app.command()
def cancel(job_id: JobId, json_: OneAsJson = False, quiet: Quiet = False) -> None:
    """Cancel a job that has not ended."""
    with client.connected() as api:
        _present_state(api.fine_tuning.jobs.cancel(job_id), json_, quiet)


@app.command()
def pause(job_id: JobId, json_: OneAsJson = False, quiet: Quiet = False) -> None:
    """Pause a running job: it finishes its step, saves its state and frees the machine."""
    with client.connected() as api:
        job = api.fine_tuning.jobs.pause(job_id)
        # No vendor has a word for it: until its step is saved such a job is `running` on the wire.
        _present_state(job, json_, quiet, "pausing" if job.status == "running" else None)
    if job.status == "running":
        advise(f"It saves after the current step. luthier jobs watch {job_id} ends once it is paused.")


@app.command()
def resume(job_id: JobId, json_: OneAsJson = False, quiet: Quiet = False) -> None:
    """Resume a paused job."""
    with client.connected() as api:
        _present_state(api.fine_tuning.jobs.resume(job_id), json_, quiet)


@app.command()
def delete(job_ids: JobIds, json_: AsJson = False, quiet: Quiet = False) -> None:
    """Delete ended jobs with their checkpoints and models; files are kept."""
    with client.connected() as api:
        delete_each(
            job_ids, lambda id: client.delete(api, f"/openai/v1/fine_tuning/jobs/{quote(id, safe='')}"), json_, quiet
        )


def _present_state(job: Any, json_: bool, quiet: bool, state: str | None = None) -> None:
    """Prints id and status, or `state` in its place; or the job as JSON."""
    present(job.to_dict(mode="json"), [job.id], lambda: say(f"{job.id} {state or job.status}"), json_, quiet)


app.command()(job_parts.events)
app.command()(job_parts.checkpoints)
app.command()(job_parts.attempts)
app.command()(compare.compare)
app.command()(results.plot)
app.command()(results.losses)


def _file_id(api: Any, name: str | None) -> str | None:
    """The id of an uploaded file; a local file is uploaded first. None for no file."""
    path = _local_file(name)
    return name if path is None else str(files.upload_file(api, path).id)


def _local_file(name: str | None) -> Path | None:
    """The local file of that name; None for no name and for the id of an uploaded file. Ends the command if there is
    neither.
    """
    if name is None or (name.startswith("file-") and not Path(name).exists()):
        return None
    files.require_exists(Path(name))
    return Path(name)
