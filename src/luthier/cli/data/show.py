"""luthier show: one row of a data file as the model sees it, token by token."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from luthier.atomic_io import read_chunks
from luthier.cli.data.check import DataFile
from luthier.cli.screen import OneAsJson, Quiet, errors, fail, print_json, screen
from luthier.core.states import Method

if TYPE_CHECKING:  # imported where they are used: `luthier --help` should not wait for them
    from luthier.data.problems.problem import Problem
    from luthier.service.files.data_check import Rules
    from luthier.service.files.shown_rows import RowSequence, RowView


def show(
    file: DataFile,
    line: Annotated[int, typer.Argument(min=1, help="Line number of the row, from 1.")],
    model: Annotated[str, typer.Option(help="Base model whose tokenizer and chat template render the row.")],
    method: Annotated[Method, typer.Option(help="Training method of the rows.")] = Method.SUPERVISED,
    tokens: Annotated[bool, typer.Option("--tokens", help="Print one token per line, with its loss weight.")] = False,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show a row as the model sees it: token by token, with the loss mask.

    Needs no service. Tokens with a loss are green. Exit code 1 if the row has errors, which are shown instead.

    Examples:

      luthier show rows.jsonl 3 --model smollm2-135m-instruct

      luthier show rows.jsonl 3 --model smollm2-135m-instruct --tokens

      luthier show pairs.jsonl 1 --model smollm2-135m-instruct --method dpo --json
    """
    from luthier.cli.data.check import rules_of
    from luthier.core.errors import InvalidRequest
    from luthier.service.files.shown_rows import RowView

    rules = rules_of(model, method)
    try:
        view = RowView(rules)
    except InvalidRequest:
        fail(f"{model} is not installed. Run: luthier models pull {model}")
    sequences, problems = _read(file, line, rules, view)
    if json_:
        print_json(_as_dict(line, rules, sequences, problems, view))
    elif not quiet:
        for problem in problems:
            errors.print(problem.sentence(), style="yellow", highlight=False, markup=False)
        for sequence in sequences:
            _print(sequence, view, tokens)
    if not sequences:
        raise typer.Exit(1)


def _read(file: Path, line: int, rules: "Rules", view: "RowView") -> "tuple[list[RowSequence], list[Problem]]":
    """The row's sequences, none if its problems prevent them, and those. Ends the command with exit code 2 if the file
    has no row on that line.

    A line that is not JSON may mean that the whole file is not JSONL: then that is the problem reported.
    """
    from luthier.data.checks import validate
    from luthier.data.jsonl import line_reader
    from luthier.data.problems.problem import Problem

    for candidate in line_reader.read_lines(read_chunks(file)):
        if candidate.number < line:
            continue
        if candidate.number > line:
            break
        row = line_reader.parse_line(candidate)
        if isinstance(row, Problem):
            report = validate.check_file(read_chunks(file), rules.abilities, method=rules.method)
            return [], [problem for problem in report.problems if problem.code == "not_jsonl"] or [row]
        return view.sequences(row)
    raise typer.BadParameter(f"the file has no row on line {line}.", param_hint="LINE")


def _as_dict(
    line: int, rules: "Rules", sequences: "list[RowSequence]", problems: "list[Problem]", view: "RowView"
) -> dict[str, object]:
    """The row as a JSON object: its problems, and of each sequence the ids, texts and loss weights of the tokens."""
    from dataclasses import asdict

    assert rules.base is not None
    shown = []
    for sequence in sequences:
        rendered = sequence.rendered
        texts = view.tokenizer.texts(rendered.token_ids)
        triples = zip(rendered.token_ids, texts, rendered.loss_weights, strict=True)
        tokens = [{"id": id, "text": text, "weight": weight} for id, text, weight in triples]
        shown.append({"output": sequence.output, "prompt_tokens": rendered.prompt_tokens, "tokens": tokens})
    return {
        "line": line,
        "model": rules.base.name,
        "problems": [asdict(problem) for problem in problems],
        "sequences": shown,
    }


def _print(sequence: "RowSequence", view: "RowView", tokens: bool) -> None:
    """Prints how many tokens are learned, then the sequence's text with those in green; with `tokens` a
    line for each.
    """
    rendered = sequence.rendered
    texts = view.tokenizer.texts(rendered.token_ids)
    name = "" if sequence.output is None else f"{sequence.output} output: "
    words = [(f"{name}{len(rendered.token_ids):,} tokens, ", "dim"), (f"{sequence.learned_tokens:,} learned", "green")]
    screen.print(Text.assemble(*words, (", the others read", "dim")), highlight=False)
    if tokens:
        for id, text, weight in zip(rendered.token_ids, texts, rendered.loss_weights, strict=True):
            style = "green" if weight else "dim"
            shown = (json.dumps(text, ensure_ascii=False), style)
            screen.print(Text.assemble(f"{id:>8}  {weight:g}  ", shown), highlight=False)
        return
    for text, weight in zip(texts, rendered.loss_weights, strict=True):
        screen.print(text, style="bold green" if weight else "", end="", highlight=False, markup=False)
    screen.print()
