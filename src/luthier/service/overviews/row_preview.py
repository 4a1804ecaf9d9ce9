"""The first rows of a training file as a base model reads them: text in runs, each learned or only read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from luthier.core.errors import InvalidRequest
from luthier.core.models import File
from luthier.core.states import Method
from luthier.data.checks import validate
from luthier.data.jsonl import line_reader
from luthier.data.jsonl.line_reader import Line
from luthier.data.problems.problem import Problem, Severity
from luthier.data.rendering.renderer import Rendered, Renderer, Unrenderable
from luthier.data.rows.preference import Preference
from luthier.data.rows.supervised import Example
from luthier.service.context import Context
from luthier.service.files import data_reports, files
from luthier.service.files.data_check import Rules
from luthier.tokenization import base_tokenizers
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer

MAX_ROW_BYTES = 64 * 1024
"""A longer row is not rendered for people."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens that are all learned, or all only read."""

    text: str
    learned: bool
    n_tokens: int


@dataclass(frozen=True, slots=True)
class RowSequence:
    """One training sequence; `output` is "preferred" or "non_preferred" for the two of a pair, else None."""

    output: str | None
    n_tokens: int
    learned_tokens: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its sequences, none if its problems prevent that."""

    line: int
    sequences: tuple[RowSequence, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class RowPage:
    """Some rows in order; `next_after` is the line to go on after, None at the end."""

    model: str
    method: Method
    rows: tuple[Row, ...]
    next_after: int | None


def rows(context: Context, file: File, model: str, method: Method | None, after: int = 0, limit: int = 5) -> RowPage:
    """The rows behind line `after`. Without a method the one that the first row suggests.

    Raises InvalidRequest for a file that is no training data, and for a model that is no base model here.
    """
    files.check_trainable(file, "file_id")
    base = context.catalog.find(model)
    folder = None if base is None else context.base_folder(base.name)
    is_ready = base is not None and not base.embeds and context.is_ready(base.name)
    if base is None or folder is None or not is_ready or base_tokenizers.load_tokenizer(folder) is None:
        raise InvalidRequest("model_not_ready", f"{model} is no base model on this machine to show rows for.", "model")
    method = method or data_reports.likely_method(context, file)
    shown, has_more = page(context, file, Rules(method, base, folder), after, limit)
    return RowPage(base.name, method, tuple(shown), shown[-1].line if has_more else None)


def page(context: Context, file: File, rules: Rules, after: int, limit: int) -> tuple[list[Row], bool]:
    """The rows behind line `after` for the rules' base model, which is on this machine, and whether more follow."""
    assert rules.base is not None
    assert rules.base_folder is not None
    tokenizer = base_tokenizers.load_tokenizer(rules.base_folder)
    assert tokenizer is not None
    renderer = Renderer(tokenizer, rules.base.context_tokens)
    shown: list[Row] = []
    for line in line_reader.read_lines(files.content(context, file)):
        if line.number <= after:
            continue
        if len(shown) == limit:
            return shown, True
        parsed, problems = _parsed(line, rules.method)
        shown.append(_row(line.number, parsed, problems, renderer, tokenizer))
    return shown, False


def _parsed(line: Line, method: Method) -> tuple[Example | Preference | None, list[Problem]]:
    """The row of a line, None where a problem prevents it."""
    if len(line.content) > MAX_ROW_BYTES:
        text = f"the row has {len(line.content):,} bytes; rows up to {MAX_ROW_BYTES // 1024} KiB are shown here."
        return None, [Problem(line.number, "", "not_shown", Severity.WARNING, text, "")]
    row = line_reader.parse_line(line)
    if isinstance(row, Problem):
        return None, [row]
    parsed = validate.parse_row(row, None, method)
    return parsed.example, list(parsed.problems)


def _row(
    number: int,
    example: Example | Preference | None,
    problems: list[Problem],
    renderer: Renderer,
    tokenizer: TorchFreeTokenizer,
) -> Row:
    """The row rendered; one that the template refuses has a further problem and no sequences."""
    parts: Sequence[tuple[str | None, Example]] = []
    if isinstance(example, Preference):
        parts = list(zip(("preferred", "non_preferred"), example.examples(), strict=True))
    elif example is not None:
        parts = [(None, example)]
    try:
        sequences = tuple(
            _sequence(output, rendered, tokenizer) for output, part in parts for rendered in renderer.render(part)
        )
    except Unrenderable as error:
        problems.append(Problem(number, "messages", error.code, Severity.ERROR, error.message, error.fix))
        sequences = ()
    return Row(number, sequences, tuple(problems))


def _sequence(output: str | None, rendered: Rendered, tokenizer: TorchFreeTokenizer) -> RowSequence:
    """A rendered sequence as runs of text."""
    segments = tuple(_segments(tokenizer.texts(rendered.token_ids), rendered.loss_weights))
    learned = sum(1 for weight in rendered.loss_weights if weight)
    return RowSequence(output, len(rendered.token_ids), learned, segments)


def _segments(texts: Sequence[str], weights: Sequence[float]) -> Iterator[Segment]:
    """Runs of tokens of one kind."""
    pairs = zip(texts, weights, strict=True)
    for learned, run in groupby(pairs, key=lambda pair: bool(pair[1])):
        found = [text for text, _ in run]
        yield Segment("".join(found), learned, len(found))
