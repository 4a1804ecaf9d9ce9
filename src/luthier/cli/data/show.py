"""luthier show: one row of a data file as the model sees it, token by token."""

import json
from dataclasses import dataclass
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
    from luthier.data.rendering.renderer import Rendered
    from luthier.data.rows.preference import Preference
    from luthier.data.rows.supervised import Example
    from luthier.service.files.data_check import Rules
    from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer


@dataclass(frozen=True, slots=True)
class _Sequence:
    """One training sequence; `texts` has the text of each token. `output` is "preferred" or "non_preferred" for a
    preference pair's two, None for a chat's.
    """

    rendered: "Rendered"
    texts: list[str]
    output: str | None


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
    from luthier.tokenization import base_tokenizers

    rules = rules_of(model, method)
    tokenizer = None if rules.base_folder is None else base_tokenizers.load_tokenizer(rules.base_folder)
    if tokenizer is None:
        fail(f"{model} is not installed. Run: luthier models pull {model}")
    problems, example = _read(file, line, rules)
    sequences = [] if example is None else _sequences(example, line, rules, tokenizer, problems)
    if json_:
        print_json(_as_dict(line, rules, sequences, problems))
    elif not quiet:
        for problem in problems:
            errors.print(problem.sentence(), style="yellow", highlight=False, markup=False)
        for sequence in sequences:
            _print(sequence, tokens)
    if not sequences:
        raise typer.Exit(1)


def _read(file: Path, line: int, rules: "Rules") -> "tuple[list[Problem], Example | Preference | None]":
    """The row's problems, and the row itself, None if they prevent it. Ends the command with exit code 2 if the file
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
            return [problem for problem in report.problems if problem.code == "not_jsonl"] or [row], None
        parsed = validate.parse_row(row, rules.abilities, rules.method)
        return list(parsed.problems), parsed.example
    raise typer.BadParameter(f"the file has no row on line {line}.", param_hint="LINE")


def _sequences(
    example: "Example | Preference",
    line: int,
    rules: "Rules",
    tokenizer: "TorchFreeTokenizer",
    problems: "list[Problem]",
) -> list[_Sequence]:
    """The row's training sequences, for a preference pair those of both outputs. If it cannot be rendered, none, and a
    further problem is appended to `problems`.
    """
    from luthier.data.problems.problem import Problem, Severity
    from luthier.data.rendering.renderer import Renderer, Unrenderable
    from luthier.data.rows.preference import Preference
    from luthier.data.rows.supervised import Example

    assert rules.base is not None
    renderer = Renderer(tokenizer, rules.base.context_tokens)
    parts: list[tuple[str | None, Example]] = [(None, example)] if isinstance(example, Example) else []
    if isinstance(example, Preference):
        parts += zip(("preferred", "non_preferred"), example.examples(), strict=True)
    try:
        return [
            _Sequence(rendered, tokenizer.texts(rendered.token_ids), output)
            for output, part in parts
            for rendered in renderer.render(part)
        ]
    except Unrenderable as error:
        problems.append(Problem(line, "messages", error.code, Severity.ERROR, error.message, error.fix))
        return []


def _as_dict(line: int, rules: "Rules", sequences: list[_Sequence], problems: "list[Problem]") -> dict[str, object]:
    """The row as a JSON object: its problems, and of each sequence the ids, texts and loss weights of the tokens."""
    from dataclasses import asdict

    assert rules.base is not None
    shown = []
    for sequence in sequences:
        rendered = sequence.rendered
        triples = zip(rendered.token_ids, sequence.texts, rendered.loss_weights, strict=True)
        tokens = [{"id": id, "text": text, "weight": weight} for id, text, weight in triples]
        shown.append({"output": sequence.output, "prompt_tokens": rendered.prompt_tokens, "tokens": tokens})
    return {
        "line": line,
        "model": rules.base.name,
        "problems": [asdict(problem) for problem in problems],
        "sequences": shown,
    }


def _print(sequence: _Sequence, tokens: bool) -> None:
    """Prints how many tokens are learned, then the sequence's text with those in green; with `tokens` a
    line for each.
    """
    rendered = sequence.rendered
    learned = sum(map(bool, rendered.loss_weights))
    name = "" if sequence.output is None else f"{sequence.output} output: "
    words = [(f"{name}{len(rendered.token_ids):,} tokens, ", "dim"), (f"{learned:,} learned", "green")]
    screen.print(Text.assemble(*words, (", the others read", "dim")), highlight=False)
    if tokens:
        for id, text, weight in zip(rendered.token_ids, sequence.texts, rendered.loss_weights, strict=True):
            style = "green" if weight else "dim"
            shown = (json.dumps(text, ensure_ascii=False), style)
            screen.print(Text.assemble(f"{id:>8}  {weight:g}  ", shown), highlight=False)
        return
    for text, weight in zip(sequence.texts, rendered.loss_weights, strict=True):
        screen.print(text, style="bold green" if weight else "", end="", highlight=False, markup=False)
    screen.print()
