"""luthier show: one row of a data file as the model will see it, token by token."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from luthier.cli.check import DataFile
from luthier.cli.chunks import read_chunks
from luthier.cli.screen import errors, fail, screen
from luthier.core.states import Method

if TYPE_CHECKING:  # imported where they are used: `luthier --help` should not wait for them
    from luthier.data.messages import Example
    from luthier.data.preferences import Preference
    from luthier.data.problem import Problem
    from luthier.data.render import Rendered
    from luthier.quick_tokenizer import QuickTokenizer
    from luthier.service.checks import Rules


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What is trained as one; `output` is which of a preference's two it is."""

    rendered: "Rendered"
    texts: list[str]
    output: str | None


def show(
    file: DataFile,
    line: Annotated[int, typer.Argument(min=1, help="Number of the row's line, the first being 1.")],
    model: Annotated[str, typer.Option(help="The base model that is to read it.")],
    method: Annotated[Method, typer.Option(help="What the rows are for.")] = Method.SUPERVISED,
    tokens: Annotated[bool, typer.Option("--tokens", help="Each token on a line of its own, with its weight.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with every token and its weight.")] = False,
) -> None:
    """Show a row as the model will see it: what it reads, and coloured what it learns to write.

    Needs no service. Ends with status 1 where the row has errors, which are shown instead.

    Examples:

      luthier show rows.jsonl 3 --model smollm2-135m-instruct

      luthier show rows.jsonl 3 --model smollm2-135m-instruct --tokens

      luthier show pairs.jsonl 1 --model smollm2-135m-instruct --method dpo --json
    """
    from luthier.cli.check import rules_of
    from luthier.service import checks

    rules = rules_of(model, method)
    tokenizer = None if rules.base_folder is None else checks.load_tokenizer(rules.base_folder)
    if tokenizer is None:
        fail(f"{model} is not on this machine yet. Run: luthier models pull {model}")
    problems, example = _read(file, line, rules)
    sequences = [] if example is None else _sequences(example, line, rules, tokenizer, problems)
    if as_json:
        print(json.dumps(_as_dict(line, rules, sequences, problems), indent=2, ensure_ascii=False))
    else:
        for problem in problems:
            errors.print(problem.sentence(), style="yellow", highlight=False, markup=False)
        for sequence in sequences:
            _print(sequence, tokens)
    if not sequences:
        raise typer.Exit(1)


def _read(file: Path, line: int, rules: "Rules") -> "tuple[list[Problem], Example | Preference | None]":
    """The row's problems, and the row where they allow it."""
    from luthier.data import jsonl, validate
    from luthier.data.problem import Problem

    for found in jsonl.lines(read_chunks(file)):
        if found.number < line:
            continue
        if found.number > line:
            break
        row = jsonl.parse(found)
        if isinstance(row, Problem):
            return [row], None
        parsed = validate.parse(row, rules.abilities, rules.method)
        return list(parsed.problems), parsed.example
    raise typer.BadParameter(f"the file has no row on line {line}.", param_hint="LINE")


def _sequences(
    example: "Example | Preference", line: int, rules: "Rules", tokenizer: "QuickTokenizer", problems: "list[Problem]"
) -> list[_Sequence]:
    """What is trained of the row; where it cannot be rendered, nothing and a further problem."""
    from luthier.data.messages import Example
    from luthier.data.preferences import Preference
    from luthier.data.problem import Problem, Severity
    from luthier.data.render import Renderer, Unrenderable

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
    from dataclasses import asdict

    assert rules.base is not None
    told = []
    for one in sequences:
        each = zip(one.rendered.token_ids, one.texts, one.rendered.loss_weights, strict=True)
        tokens = [{"id": id, "text": text, "weight": weight} for id, text, weight in each]
        told.append({"output": one.output, "prompt_tokens": one.rendered.prompt_tokens, "tokens": tokens})
    return {
        "line": line,
        "model": rules.base.name,
        "problems": [asdict(problem) for problem in problems],
        "sequences": told,
    }


def _print(sequence: _Sequence, tokens: bool) -> None:
    rendered = sequence.rendered
    learned = sum(map(bool, rendered.loss_weights))
    name = "" if sequence.output is None else f"{sequence.output} output: "
    words = f"[dim]{name}{len(rendered.token_ids):,} tokens, [/][green]{learned:,} learned[/][dim], the others read[/]"
    screen.print(words, highlight=False)
    if tokens:
        for id, text, weight in zip(rendered.token_ids, sequence.texts, rendered.loss_weights, strict=True):
            style = "green" if weight else "dim"
            screen.print(
                f"{id:>8}  {weight:g}  [{style}]{escape(json.dumps(text, ensure_ascii=False))}[/]", highlight=False
            )
        return
    for text, weight in zip(sequence.texts, rendered.loss_weights, strict=True):
        screen.print(text, style="bold green" if weight else "", end="", highlight=False, markup=False)
    screen.print()
