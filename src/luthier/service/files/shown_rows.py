"""Rows of a data file as the model sees them: the tokens of each training sequence, which of them are learned, and the
row's problems. `luthier show` and the pages of rows use it.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from luthier.core.errors import InvalidRequest, TooLarge
from luthier.core.models import File
from luthier.data.checks import validate
from luthier.data.jsonl import line_reader
from luthier.data.jsonl.line_reader import JsonRow, Line
from luthier.data.problems.problem import Problem, Severity
from luthier.data.rendering.renderer import Rendered, Renderer, Unrenderable
from luthier.data.rows.preference import Preference
from luthier.data.rows.supervised import Example
from luthier.service.context import Context
from luthier.service.files import files
from luthier.service.files.data_check import Rules
from luthier.tokenization import base_tokenizers
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer

MAX_READ_BYTES = 64 * 1024 * 1024
"""How far into a file rows are looked for."""
MAX_ROW_BYTES = 1024 * 1024
"""A longer row is not rendered."""
MAX_SHOWN_TOKENS = 4096
"""Tokens of a sequence whose text is shown."""
MAX_PAGE_TOKENS = 40_000
"""A page ends after so many tokens: turning one into text takes some 5 microseconds."""


@dataclass(frozen=True, slots=True)
class RowSequence:
    """One training sequence; `output` is "preferred" or "non_preferred" for a pair's two, None for a chat's."""

    rendered: Rendered
    output: str | None

    @property
    def learned_tokens(self) -> int:
        return sum(map(bool, self.rendered.loss_weights))


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a sequence's text whose tokens are all learned, or all only read."""

    text: str
    learned: bool
    n_tokens: int


@dataclass(frozen=True, slots=True)
class ShownSequence:
    """A sequence as text. The counts are those of the whole sequence, also where the text is cut."""

    output: str | None
    n_tokens: int
    learned_tokens: int
    segments: list[Segment]


@dataclass(frozen=True, slots=True)
class ShownRow:
    """One row; no sequences if its problems prevent them. `truncated` is whether text was left out."""

    line: int
    sequences: list[ShownSequence]
    problems: list[Problem]
    truncated: bool


class RowView:
    """Renders rows by the rules' base model. Keeps its tokenizer and template for many rows; used by one thread."""

    def __init__(self, rules: Rules) -> None:
        """Raises InvalidRequest if the rules' base model is not on this machine."""
        tokenizer = None if rules.base_folder is None else base_tokenizers.load_tokenizer(rules.base_folder)
        if tokenizer is None or rules.base is None:
            name = "The base model" if rules.base is None else rules.base.name
            text = f"{name} is not on this machine, so its rows cannot be rendered. Run: luthier models pull NAME"
            raise InvalidRequest("model_not_ready", text, "model")
        self.tokenizer: TorchFreeTokenizer = tokenizer
        self._rules = rules
        self._renderer = Renderer(tokenizer, rules.base.context_tokens)

    def show(self, line: Line) -> ShownRow:
        """The row of a line; a row that is too long is not rendered, and a problem says so."""
        if len(line.content) > MAX_ROW_BYTES or not line.complete:
            text = f"the row is longer than {MAX_ROW_BYTES // 2**20} MiB, so it is not shown."
            long = Problem(line.number, "", "row_too_long_to_show", Severity.WARNING, text, "Split it.")
            return ShownRow(line.number, [], [long], truncated=True)
        row = line_reader.parse_line(line)
        if isinstance(row, Problem):
            return ShownRow(line.number, [], [row], truncated=False)
        sequences, problems = self.sequences(row)
        shown = [self._shown(sequence) for sequence in sequences]
        truncated = any(len(one.rendered.token_ids) > MAX_SHOWN_TOKENS for one in sequences)
        return ShownRow(line.number, shown, problems, truncated)

    def sequences(self, row: JsonRow) -> tuple[list[RowSequence], list[Problem]]:
        """The row's training sequences, of a pair those of both outputs, and its problems; no sequences if those
        prevent them, or if it cannot be rendered.
        """
        parsed = validate.parse_row(row, self._rules.abilities, self._rules.method)
        problems, example = list(parsed.problems), parsed.example
        parts: list[tuple[str | None, Example]] = [(None, example)] if isinstance(example, Example) else []
        if isinstance(example, Preference):
            parts += zip(("preferred", "non_preferred"), example.examples(), strict=True)
        try:
            sequences = [
                RowSequence(rendered, output) for output, part in parts for rendered in self._renderer.render(part)
            ]
        except Unrenderable as error:
            problems.append(Problem(row.line, "messages", error.code, Severity.ERROR, error.message, error.fix))
            return [], problems
        return sequences, problems

    def _shown(self, sequence: RowSequence) -> ShownSequence:
        """The sequence as text, of at most MAX_SHOWN_TOKENS tokens."""
        rendered = sequence.rendered
        texts = self.tokenizer.texts(rendered.token_ids[:MAX_SHOWN_TOKENS])
        segments = []
        pairs = zip(texts, rendered.loss_weights, strict=False)
        for learned, group in itertools.groupby(pairs, key=lambda pair: bool(pair[1])):
            words = [text for text, _ in group]
            segments.append(Segment("".join(words), learned, len(words)))
        return ShownSequence(sequence.output, len(rendered.token_ids), sequence.learned_tokens, segments)


def problems(rules: Rules, number: int, content: bytes) -> list[Problem]:
    """What is wrong with one line by itself, without a base model."""
    row = line_reader.parse_line(Line(number, content))
    if isinstance(row, Problem):
        return [row]
    return list(validate.parse_row(row, rules.abilities, rules.method).problems)


def page(context: Context, file: File, rules: Rules, after: int, limit: int) -> tuple[list[ShownRow], bool]:
    """At most `limit` rows behind the line `after`, and whether more follow.

    Reads only the beginning of the file that it needs. Raises InvalidRequest for a file that is no training data and a
    base model that is not here, and TooLarge for rows too far in the file.
    """
    files.check_trainable(file, "file_id")
    view = RowView(rules)
    shown: list[ShownRow] = []
    n_tokens = 0
    for line in lines(files.content(context, file)):
        if line.number <= after:
            continue
        if len(shown) == limit or n_tokens > MAX_PAGE_TOKENS:
            return shown, True
        row = view.show(line)
        n_tokens += sum(min(sequence.n_tokens, MAX_SHOWN_TOKENS) for sequence in row.sequences)
        shown.append(row)
    if file.bytes > MAX_READ_BYTES and not shown:
        text = f"Rows beyond the first {MAX_READ_BYTES // 2**20} MiB of a file are not shown; use luthier show."
        raise TooLarge("row_too_far", text, "after")
    return shown, file.bytes > MAX_READ_BYTES


def rows_of_lines(context: Context, file: File, rules: Rules, numbers: Sequence[int]) -> dict[int, ShownRow]:
    """The rows of these lines; without those that are too far in the file. Raises as `page`, but for TooLarge."""
    files.check_trainable(file, "file_id")
    view, wanted, found = RowView(rules), set(numbers), dict[int, ShownRow]()
    for line in lines(files.content(context, file)):
        if line.number in wanted:
            found[line.number] = view.show(line)
            wanted.remove(line.number)
        if not wanted:
            break
    return found


def lines(chunks: Iterable[bytes]) -> Iterator[Line]:
    """The lines of the first MAX_READ_BYTES; one that is cut there is left out."""
    splitter = line_reader.LineSplitter()
    n_bytes = 0
    for chunk in chunks:
        n_bytes += len(chunk)
        yield from splitter.add(chunk)
        if n_bytes > MAX_READ_BYTES:
            return
    yield from splitter.finish()
