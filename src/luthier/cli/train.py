"""luthier train: a run without a service, through the same run directory and the same trainer."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.screen import EARLY_STOP, errors, fail, screen
from luthier.core.errors import LuthierError
from luthier.core.states import Method

if TYPE_CHECKING:  # imported where they are used: `luthier --help` should not wait for them
    from luthier.run_directory import RunDirectory
    from luthier.service.local_runs import LocalRequest, Summary


def train(
    model: Annotated[str, typer.Option(help="A base model of this machine.")],
    data: Annotated[Path, typer.Option(help="Training rows: a JSONL file.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: its checkpoints, results.csv and saved state.")],
    validation: Annotated[Path | None, typer.Option(help="Validation rows, likewise.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the rows; left out: chosen for you.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows per step; left out: chosen for you.")] = None,
    lr_multiplier: Annotated[float | None, typer.Option(help="Factor on the model's own learning rate.")] = None,
    method: Annotated[Method, typer.Option(help="What the rows are: chats, or preference pairs.")] = Method.SUPERVISED,
    beta: Annotated[float | None, typer.Option(help="Of method dpo; left out: 0.1.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed and parameters: same model.")] = None,
    early_stop: Annotated[int | None, typer.Option(help=EARLY_STOP)] = None,
    json: Annotated[bool, typer.Option("--json", help="End with one JSON object; progress goes to stderr.")] = False,
) -> None:
    """Fine-tune without a service. Ctrl-C saves and stops; the same command again goes on."""
    from luthier import app
    from luthier.cli import follow
    from luthier.core.hyperparameters import Hyperparameters
    from luthier.run_directory import Failed
    from luthier.service import local_runs
    from luthier.settings import Settings

    if beta is not None and method is not Method.DPO:
        fail("--beta is of --method dpo: it says what a difference in log-probability counts for.")
    asked = Hyperparameters(epochs, batch_size, lr_multiplier, beta)
    run = _prepared(local_runs.LocalRequest(model, data, validation, asked, method, seed, early_stop), out)
    try:
        verdict = follow.train(app.patient_executor(), run, errors if json else screen)
    except KeyboardInterrupt:
        verdict = None
    if verdict is None:
        fail(f"Stopped before the end. The same command again goes on from the last save. Trainer's log: {run.log}")
    if isinstance(verdict, Failed):
        fail(f"{verdict.message}\nThis run cannot go on. Mend the cause, and give another --out or remove {run.path}.")
    summary = local_runs.summary(run, verdict)
    local_runs.note_rate(Settings().data_dir.absolute(), run, verdict)
    if json:
        print(local_runs.as_json(summary))
    else:
        _print(summary)


def _prepared(request: "LocalRequest", out: Path) -> "RunDirectory":
    """The run directory, checked and written; ends the command where it cannot be had."""
    from pydantic import ValidationError

    from luthier import catalog
    from luthier.service import local_runs
    from luthier.service.jobs import MAX_SEED
    from luthier.settings import Settings

    try:
        settings = Settings()
        known, models = catalog.load(settings.catalog), settings.models_folder.absolute()
        run = local_runs.prepare(
            request, out, known, models, settings.train_threads, lambda: secrets.randbelow(MAX_SEED + 1)
        )
    except LuthierError as error:
        fail("\n".join([error.message, *(f"- {detail.message}" for detail in error.details)]))
    except (ValidationError, ValueError, OSError) as error:
        fail(f"Cannot train: {error}")
    if run.is_held():
        fail(f"A trainer is at work on {out} already. When it has ended, the same command shows what came of it.")
    return run


def _print(summary: "Summary") -> None:
    valid = "" if summary.full_valid_loss is None else f", validation loss {summary.full_valid_loss:.4f}"
    lines = (
        f"{summary.steps} steps, {summary.tokens:,} tokens, {summary.supervised_tokens:,} of them learned, in "
        f"{summary.seconds:.1f} s; peak memory {summary.peak_memory_bytes / 1e9:.2f} GB",
        f"steps alone: {summary.tokens_per_s:,.1f} tokens/s, {summary.supervised_tokens_per_s:,.1f} learned tokens/s",
        f"training loss {summary.train_loss:.4f}{valid}",
        f"model: {summary.checkpoint}  sha256 {summary.adapter_sha256}",
    )
    for line in lines:
        screen.print(line, highlight=False, markup=False)
