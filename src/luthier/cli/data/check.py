"""luthier check: validates a data file without a service and before anything trains. `jobs create` checks its local
files by `require_trainable`; `luthier show` shares `rules_of`.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from luthier.atomic_io import read_chunks
from luthier.cli.data import decoding, repair
from luthier.cli.screen import OneAsJson, Quiet, bytes_progress, errors, fail, print_json, screen
from luthier.core.states import Method
from luthier.core.training.recipe import MAX_RECIPE_EPOCHS
from luthier.process import printable

if TYPE_CHECKING:  # imported where they are used: `luthier --help` should not wait for them
    from luthier.data.problems.problem_groups import ProblemGroup
    from luthier.service.files.data_check import Checked, Rules
    from luthier.service.files.training_estimate import RunEstimate

LARGE_BYTES = 8 * 1024 * 1024
MAX_ERRORS = 10
"""Kinds of errors that are printed when a file is refused."""

DataFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Training file (JSONL).")]
Validation = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Validation file (JSONL); also checked for training rows."),
]
Model = Annotated[str | None, typer.Option(help="Base model to train: counts tokens, checks its abilities.")]


def check(
    file: DataFile,
    validation: Validation = None,
    model: Model = None,
    method: Annotated[Method, typer.Option(help="Training method of the rows.")] = Method.SUPERVISED,
    fix: Annotated[Path | None, typer.Option(help="Write a copy with the safe repairs here, and check that.")] = None,
    encoding: Annotated[
        str | None,
        typer.Option(callback=decoding.resolve, help="Encoding of lines that are not UTF-8: gbk, windows-1251 ..."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, max=MAX_RECIPE_EPOCHS, help="Epochs of the job to estimate.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, max=256, help="Batch size of the job to estimate.")] = None,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Validate a training file: every problem of every row, with its line and the fix.

    Needs no service. Exit code 0: a job can train on the file, warnings or not. 1: it cannot, for example because of
    images that no base model here takes. 2: the command line is wrong.

    Examples:

      luthier check rows.jsonl

      luthier check rows.jsonl --validation held-out.jsonl --model smollm2-135m-instruct

      luthier check rows.jsonl --fix repaired.jsonl

      luthier check pairs.jsonl --method dpo --json | jq '.problems[] | select(.severity == "error")'
    """
    from luthier.core.training.hyperparameters import Hyperparameters
    from luthier.service.files import data_check, training_estimate
    from luthier.settings import Settings

    rules = rules_of(model, method)
    changes = None if fix is None else repair.write(file, fix, encoding)
    file = fix or file
    training = _checked(file, encoding, partial(data_check.check_training, rules=rules))
    held_check = partial(data_check.check_validation, rules=rules, training=training)
    held_out = None if validation is None else _checked(validation, encoding, held_check)
    if changes is not None and not (json_ or quiet):
        repair.show(file, changes)
    asked = Hyperparameters(n_epochs=epochs, batch_size=batch_size)
    settings = Settings()
    run = training_estimate.estimate(training, rules, asked, settings.data_dir.absolute(), settings.price)
    if json_:
        extra = {} if changes is None else {"changes": repair.as_dicts(changes)}
        print_json(_as_dict(training, held_out, run) | extra)
    elif not quiet:
        _show(file, training, run)
        if held_out is not None and validation is not None:
            screen.print()
            _show(validation, held_out, None)
    if not training.report.trainable or (held_out is not None and not held_out.report.trainable):
        raise typer.Exit(1)


def _as_dict(training: "Checked", held_out: "Checked | None", run: "RunEstimate | None") -> dict[str, object]:
    """What --json prints: the training file's report, the estimate in it, and the validation file's report."""
    from luthier.service.files import data_check

    report: dict[str, object] = data_check.as_dict(training, None if run is None else asdict(run))
    return report if held_out is None else report | {"validation": data_check.as_dict(held_out)}


def rules_of(model: str | None, method: Method) -> "Rules":
    """What the file is checked against. Tokens are counted only with a model that is installed; stderr says if it is
    not. Ends the command with exit code 2 for a model that is not in the catalog.
    """
    from luthier import catalog
    from luthier.model_folder import BaseModelFolder
    from luthier.service.files import data_check
    from luthier.settings import Settings

    if model is None:
        return data_check.Rules(method)
    settings = Settings()
    base_models = catalog.load(settings.catalog, settings.models_folder)
    base = base_models.find(model)
    if base is None or base.embeds:  # an embedding model is not trained
        names = ", ".join(name for name, entry in base_models.entries.items() if not entry.embeds)
        words = printable.escape_line(f"there is no base model {model!r}. The catalog has: {names}.")
        raise typer.BadParameter(words, param_hint="--model")
    folder = settings.models_folder.absolute() / base.name
    if not BaseModelFolder(folder).is_complete:
        errors.print(f"Tokens are not counted: {base.name} is not installed. Run: luthier models pull {base.name}")
        return data_check.Rules(method, base)
    return data_check.Rules(method, base, folder)


def require_trainable(training: Path | None, validation: Path | None, method: Method) -> None:
    """Ends the command with exit code 1 and the errors of the first of these local files that no job can train on. None
    is a file that needs no check, as it is uploaded already; warnings are not printed.
    """
    from luthier.data.problems.problem import Severity
    from luthier.service.files import data_check

    rules = data_check.Rules(method, counts_all=False)
    checked = None if training is None else _checked(training, None, partial(data_check.check_training, rules=rules))
    check_held_out = partial(data_check.check_validation, rules=rules, training=checked)
    held_out = None if validation is None else _checked(validation, None, check_held_out)
    for path, result in ((training, checked), (validation, held_out)):
        if result is None or result.report.trainable:
            continue
        groups = [group for group in result.report.groups if group.first.severity is Severity.ERROR]
        lines = [f"{path} cannot be trained on; nothing was uploaded and no job was created:"]
        lines += data_check.summary_lines(groups, MAX_ERRORS)
        fail("\n".join([*lines, f"With warnings and statistics: luthier check {path} --method {method}"]))


def _checked(path: Path, codec: str | None, check: "Callable[[Iterator[bytes]], Checked]") -> "Checked":
    """The results for a file, read as a stream; its lines are decoded first if `codec` is given. Ends the command with
    exit code 1 if they cannot be decoded.
    """
    with _reading(path) as chunks, decoding.decoded(path, chunks, codec) as read:
        return read.report(check(read.chunks))


@contextmanager
def _reading(path: Path) -> Iterator[Iterator[bytes]]:
    """The file in chunks; for a large one with a progress bar, if stderr is a terminal."""
    size = path.stat().st_size
    with bytes_progress(transient=True) as progress:
        task = progress.add_task(f"check {printable.escape_line(path.name)}", total=size, visible=size >= LARGE_BYTES)

        def counted() -> Iterator[bytes]:
            """Moves the bar with each chunk that was consumed."""
            for chunk in read_chunks(path):
                yield chunk
                progress.advance(task, len(chunk))

        yield counted()


def _show(path: Path, checked: "Checked", run: "RunEstimate | None") -> None:
    """Prints verdict, counts and figures of the file, the estimate of the run unless it is None, then the problems by
    kind.
    """
    from luthier.service.files import training_estimate

    report = checked.report
    verdict = ("can be trained on", "green") if report.trainable else ("cannot be trained on", "red")
    screen.print(Text.assemble((printable.escape_line(path.name), "bold"), " ", verdict, ": "), end="")
    screen.print(
        f"{report.n_rows:,} rows, {report.good_rows:,} good, {report.warned_rows:,} with warnings, "
        f"{report.bad_rows:,} bad.",
        highlight=False,
    )
    for line in _figures(checked):
        screen.print(line, highlight=False, markup=False)
    if run is not None:
        screen.print(training_estimate.in_words(run), highlight=False, markup=False)
    for group in report.groups:
        _show_group(group)


def _figures(checked: "Checked") -> Iterator[str]:
    """Sentences on the file's messages, characters and tokens; none for a file without messages, and none on tokens
    that were not counted.
    """
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


def _show_group(group: "ProblemGroup") -> None:
    """Prints one kind of problem: severity, code, lines, the first problem's sentence, and the keys
    that it is about.
    """
    from luthier.data.problems.problem import Severity

    first = group.first
    colour, word = ("red", "error") if first.severity is Severity.ERROR else ("yellow", "warning")
    screen.print(Text.assemble("\n", (word, colour), " ", (first.code, "bold"), " "), end="")
    screen.print(f"{group.where}" + (f" ({group.count:,} in all)" if group.count > 1 else ""), highlight=False)
    if group.n_sentences > 1:
        screen.print(f"  {group.n_sentences:,} more sentences of this code are cut; the first:", highlight=False)
    screen.print(f"  {first.sentence()}", highlight=False, markup=False)
    if group.keys:
        named = ", ".join(f"{json.dumps(key, ensure_ascii=False)} ({count:,})" for key, count in group.keys.items())
        more = f" and {group.more_keys:,} more" if group.more_keys else ""
        screen.print(f"  The key, and how often: {printable.escape_line(named)}{more}.", highlight=False, markup=False)
