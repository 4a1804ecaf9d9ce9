"""luthier train: fine-tunes without a service, through the same run directory and trainer."""

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.screen import OneAsJson, Quiet, errors, fail, present, print_json, screen
from luthier.cli.training import recipe_options
from luthier.core.errors import LuthierError
from luthier.core.states import Method
from luthier.core.training.recipe import Recipe

if TYPE_CHECKING:  # imported where they are used: `luthier --help` should not wait for them
    from luthier.run_directory.run_directory import RunDirectory
    from luthier.service.jobs.local_training import LocalRequest, Summary


@recipe_options.with_recipe_options
def train(
    model: Annotated[str, typer.Option(help="Base model to train; it must be installed.")],
    data: Annotated[Path, typer.Option(help="Training file (JSONL).")],
    out: Annotated[Path, typer.Option(help="Run directory: checkpoints, results.csv and resume state.")],
    validation: Annotated[Path | None, typer.Option(help="Validation file (JSONL).")] = None,
    epochs: recipe_options.Epochs = None,
    batch_size: recipe_options.BatchSize = None,
    lr_multiplier: recipe_options.LearningRateMultiplier = None,
    method: recipe_options.TrainingMethod = Method.SUPERVISED,
    beta: recipe_options.Beta = None,
    seed: recipe_options.Seed = None,
    early_stop: recipe_options.EarlyStop = None,
    ranks: Annotated[
        int | None, typer.Option(min=1, help="Processes that train together (default: LUTHIER_TRAIN_RANKS).")
    ] = None,
    shard_base: Annotated[
        bool | None,
        typer.Option("--shard-base/--whole-base", help="Share the frozen base out over the ranks, or not."),
    ] = None,
    json_: OneAsJson = False,
    quiet: Quiet = False,
    *,
    recipe: Recipe,
) -> None:
    """Fine-tune without a service.

    Ctrl-C saves the state and stops; the same command resumes.

    Examples:

      luthier train --model smollm2-135m-instruct --data rows.jsonl --out run --epochs 3 --learning-rate 2e-4

      luthier train --config run.yaml --out other --lora-rank 8
    """
    from luthier.cli.training import follow, local_executor
    from luthier.core.training.hyperparameters import Hyperparameters
    from luthier.core.training.rank_plan import RankPlan
    from luthier.run_directory.run_events import Failed
    from luthier.service.files import training_estimate
    from luthier.service.jobs import local_training
    from luthier.settings import Settings

    settings = Settings()
    plan = RankPlan(ranks or settings.train_ranks, settings.train_shard_base if shard_base is None else shard_base)
    recipe_options.check_beta(method, beta)
    asked = Hyperparameters(epochs, batch_size, lr_multiplier, beta)
    request = local_training.LocalRequest(model, data, validation, asked, method, seed, early_stop, recipe, plan)
    run = _prepared(request, out)
    try:
        verdict = follow.train(local_executor.patient_executor(), run, errors if json_ or quiet else screen)
    except KeyboardInterrupt:
        verdict = None
    if verdict is None:
        fail(f"Stopped before the end. The same command resumes from the last save. Log of the trainer: {run.log}")
    if isinstance(verdict, Failed):
        fail(
            f"{verdict.message}\nThis run cannot continue. Fix the cause, then give another --out or remove {run.path}."
        )
    summary = local_training.summary(run, verdict)
    training_estimate.record_throughput(settings.data_dir.absolute(), run, verdict)
    if json_:
        print_json(json.loads(local_training.as_json(summary)), None)  # one line, the last of stdout
    else:
        present(None, [summary.checkpoint], lambda: _print(summary), json_, quiet)


def _prepared(request: "LocalRequest", out: Path) -> "RunDirectory":
    """The run directory at `out`: checked and written, or found as the same run to resume or to show. Ends the command
    with exit code 1, and the reasons, if request or data cannot be trained on, `out` holds another run, or a trainer
    runs there.
    """
    from pydantic import ValidationError

    from luthier import catalog
    from luthier.core.training.hyperparameters import MAX_SEED
    from luthier.service.jobs import local_training
    from luthier.settings import Settings

    settings = Settings()
    base_models = catalog.load(settings.catalog, settings.models_folder)
    folder = settings.models_folder.absolute()
    try:
        run = local_training.prepare(
            request, out, base_models, folder, settings.train_threads, lambda: secrets.randbelow(MAX_SEED + 1)
        )
    except LuthierError as error:
        fail("\n".join([error.message, *(f"- {detail.message}" for detail in error.details)]))
    except (ValidationError, ValueError, OSError) as error:
        fail(f"Cannot train: {error}")
    if run.is_locked():
        fail(f"A trainer is already running on {out}. Once it has ended, the same command shows its result.")
    return run


def _print(summary: "Summary") -> None:
    """Prints steps, tokens, throughput, losses and the model's folder and hash as lines on stdout."""
    valid = "" if summary.full_valid_loss is None else f", validation loss {summary.full_valid_loss:.4f}"
    lines = (
        f"{summary.steps} steps, {summary.tokens:,} tokens, {summary.supervised_tokens:,} of them learned, in "
        f"{summary.seconds:.1f} s; peak memory {summary.peak_memory_bytes / 1e9:.2f} GB",
        f"steps only: {summary.tokens_per_s:,.1f} tokens/s, {summary.supervised_tokens_per_s:,.1f} learned tokens/s",
        f"training loss {summary.train_loss:.4f}{valid}",
        f"model: {summary.checkpoint}  sha256 {summary.adapter_sha256}",
    )
    for line in lines:
        screen.print(line, highlight=False, markup=False)
