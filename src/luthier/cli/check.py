"""luthier check: everything that is wrong with a data file, without a service and before anything trains."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from luthier.cli import mending
from luthier.cli.chunks import read_chunks
from luthier.cli.screen import errors, screen
from luthier.core.states import Method

if TYPE_CHECKING:  # imported where they are used: `luthier --help` should not wait for them
    from luthier.data.grouping import Group
    from luthier.service.checks import Checked, Rules
    from luthier.service.estimates import RunEstimate

LARGE_BYTES = 8 * 1024 * 1024

DataFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Training rows: a JSONL file.")]
Validation = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="Validation rows; also held against the training rows.")
]
Model = Annotated[str | None, typer.Option(help="The base model to train: counts tokens, knows what it can take.")]


def check(
    file: DataFile,
    validation: Validation = None,
    model: Model = None,
    method: Annotated[Method, typer.Option(help="What the rows are for.")] = Method.SUPERVISED,
    fix: Annotated[
        Path | None, typer.Option(help="Write a repaired copy here, where a repair is safe, and check that.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, max=50, help="Of the job to estimate.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, max=256, help="Of the job to estimate.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: problems and statistics.")] = False,
) -> None:
    """Check a training file: every problem of every row at once, with the line, the place and the fix.

    Needs no service. Ends with status 0 where a job could train on the file, 1 where it could not.

    Examples:

      luthier check rows.jsonl

      luthier check rows.jsonl --validation held-out.jsonl --model smollm2-135m-instruct

      luthier check rows.jsonl --fix mended.jsonl

      luthier check pairs.jsonl --method dpo --json | jq '.problems[] | select(.severity == "error")'
    """
    from luthier.core.hyperparameters import Hyperparameters
    from luthier.service import checks, estimates
    from luthier.settings import Settings

    rules = rules_of(model, method)
    changes = None if fix is None else mending.write(file, fix)
    file = fix or file
    with _reading(file) as chunks:
        training = checks.check_training(chunks, rules)
    held_out = None
    if validation is not None:
        with _reading(validation) as chunks:
            held_out = checks.check_validation(chunks, rules, training)
    if changes is not None and not as_json:
        mending.show(file, changes)
    asked = Hyperparameters(n_epochs=epochs, batch_size=batch_size)
    settings = Settings()
    run = estimates.estimate(training, rules, asked, settings.data_dir.absolute(), settings.price)
    if as_json:
        told = checks.as_dict(training, None if run is None else asdict(run))
        if held_out is not None:
            told["validation"] = checks.as_dict(held_out)
        if changes is not None:
            told["changes"] = mending.as_dicts(changes)
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        _show(file, training, run)
        if held_out is not None and validation is not None:
            screen.print()
            _show(validation, held_out, None)
    if not training.report.valid or (held_out is not None and not held_out.report.valid):
        raise typer.Exit(1)


def rules_of(model: str | None, method: Method) -> "Rules":
    """What the file is held against. Ends the command with status 2 for a model that the catalog has not."""
    from luthier import catalog
    from luthier.service import checks
    from luthier.service.context import is_prepared
    from luthier.settings import Settings

    if model is None:
        return checks.Rules(method)
    settings = Settings()
    known = catalog.load(settings.catalog)
    base = known.find(model)
    if base is None:
        names = ", ".join(known.entries)
        raise typer.BadParameter(f"there is no base model {model!r}. The catalog has: {names}.", param_hint="--model")
    folder = settings.models_folder.absolute() / base.name
    if not is_prepared(folder):
        errors.print(f"Tokens are not counted: {base.name} is not here yet. Run: luthier models pull {base.name}")
        return checks.Rules(method, base)
    return checks.Rules(method, base, folder)


@contextmanager
def _reading(path: Path) -> Iterator[Iterator[bytes]]:
    """The file chunk by chunk; of a large one a bar shows how far, on the error stream of a terminal alone."""
    size = path.stat().st_size
    columns = (TextColumn("check {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    hidden = size < LARGE_BYTES or not errors.is_terminal
    with Progress(*columns, console=errors, disable=hidden, transient=True) as progress:
        task = progress.add_task(path.name, total=size)

        def told() -> Iterator[bytes]:
            for chunk in read_chunks(path):
                yield chunk
                progress.advance(task, len(chunk))

        yield told()


def _show(path: Path, checked: "Checked", run: "RunEstimate | None") -> None:
    """The summary first, then the problems by kind."""
    from luthier.data import grouping
    from luthier.service import estimates

    report = checked.report
    good = report.n_rows - report.bad_rows - report.warned_rows
    verdict = "[green]can be trained on[/]" if report.valid else "[red]cannot be trained on[/]"
    screen.print(f"[bold]{_plain(path.name)}[/] {verdict}: ", end="")
    screen.print(
        f"{report.n_rows:,} rows, {good:,} good, {report.warned_rows:,} with warnings, {report.bad_rows:,} bad.",
        highlight=False,
    )
    for line in _figures(checked):
        screen.print(line, highlight=False, markup=False)
    if run is not None:
        screen.print(estimates.in_words(run), highlight=False, markup=False)
    for group in grouping.groups(report.problems):
        _show_group(group, report.by_kind.get((group.first.severity, group.first.code), group.count))
    hidden = report.n_errors + report.n_warnings - len(report.problems)
    if hidden > 0:
        screen.print(f"\n{hidden:,} more problems are not listed.", highlight=False)


def _figures(checked: "Checked") -> Iterator[str]:
    numbers, tokens = checked.statistics, checked.tokens
    if not numbers.messages:
        return
    spread = numbers.characters
    yield (
        f"{numbers.messages:,} messages, {spread.total:,} characters; a row has {spread.median:,} in the middle and at "
        f"most {spread.longest:,} (line {spread.longest_line})."
    )
    if tokens is not None and tokens.tokens.longest_line is not None:
        learned = tokens.supervised.total
        yield (
            f"{tokens.tokens.total:,} tokens an epoch, {learned:,} of them learned; a row has {tokens.tokens.median:,} "
            f"in the middle and at most {tokens.tokens.longest:,} (line {tokens.tokens.longest_line}) of "
            f"{tokens.context_tokens:,}."
        )


def _show_group(group: "Group", count: int) -> None:
    from luthier.data.problem import Severity

    first = group.first
    colour, word = ("red", "error") if first.severity is Severity.ERROR else ("yellow", "warning")
    screen.print(f"\n[{colour}]{word}[/] [bold]{first.code}[/] ", end="")
    screen.print(f"{group.where}" + (f" ({count:,} in all)" if count > 1 else ""), highlight=False)
    screen.print(f"  {first.sentence()}", highlight=False, markup=False)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
