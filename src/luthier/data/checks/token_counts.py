"""How many tokens a file has, and how many of them are learned: as the trainer counts, in the background."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from luthier.data.checks import statistics
from luthier.data.checks.statistics import LengthCounter, LengthDistribution
from luthier.data.problems.problem import Problem, Severity
from luthier.data.rendering import renderer
from luthier.data.rendering.renderer import Unrenderable
from luthier.data.rendering.text_segments import CountingTokenizer, Segment, SegmentSplitter
from luthier.data.rows.preference import Preference
from luthier.data.rows.supervised import Example

_BATCH_CHARACTERS = 200_000
_BATCHES_AHEAD = 2
UNEVEN_TOKENS = 1000
_TEMPLATE_TOKENS = 200
"""More than a template writes of its own at the beginning of a chat."""


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """Tokens of the rows in one epoch: `tokens` of all, `supervised` the learned ones of them.

    `too_long` counts the rows of more than `context_tokens`, the base model's context; they are left out of both.
    """

    tokens: LengthDistribution
    supervised: LengthDistribution
    context_tokens: int
    too_long: int


@dataclass(slots=True)
class _Batch:
    """Rows whose texts are counted together: each with the pieces of its sequences, in the order of `texts`."""

    rows: list[tuple[int, list[list[Segment]]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    characters: int = 0


class TokenCounter:
    """A validate.RowObserver. Rows of more than `context_tokens` are problems: nothing is ever cut off silently.

    With `only_long` rows that are clearly short enough are passed over, and the statistics are not those of the file.
    """

    def __init__(self, tokenizer: CountingTokenizer, context_tokens: int, only_long: bool = False) -> None:
        self._tokenizer = tokenizer
        self._context_tokens = context_tokens
        self._most_characters = context_tokens * tokenizer.longest_token
        # A token covers at least one byte. Twice the row leaves room for what the template writes around it.
        self._short_bytes = max(0, context_tokens - _TEMPLATE_TOKENS) // 2 if only_long else -1
        self._segments = SegmentSplitter(tokenizer)
        self._tokens, self._supervised = LengthCounter(), LengthCounter()
        self._rows = self._too_long = 0
        self._batch = _Batch()
        self._ahead: deque[tuple[_Batch, Callable[[], list[int]]]] = deque()

    def add(self, line: int, raw: bytes, example: Example | Preference) -> Iterable[Problem]:
        """Takes a row, whose line is `raw`, to be counted with others in the background.

        Returns the error of this row if it cannot be rendered or is far too long, or those of an older batch; mostly
        ().
        """
        if len(raw) <= self._short_bytes:
            return ()
        examples = example.examples() if isinstance(example, Preference) else (example,)
        if len(raw) > self._most_characters and any(_characters(one) > self._most_characters for one in examples):
            # Not worth the memory of counting: no token is so long that they could be few enough.
            return [self._over(line, max(map(_characters, examples)) // self._tokenizer.longest_token, True)]
        try:
            sequences = [sequence for one in examples for sequence in self._segments.split(one)]
        except Unrenderable as error:
            return [Problem(line, "messages", error.code, Severity.ERROR, error.message, error.fix)]
        batch = self._batch
        batch.rows.append((line, sequences))
        for pieces in sequences:
            for piece in pieces:
                if piece.text is not None:
                    batch.texts.append(piece.text)
                    batch.characters += len(piece.text)
        if batch.characters < _BATCH_CHARACTERS:
            return ()
        self._send()
        return self._take() if len(self._ahead) > _BATCHES_AHEAD else ()

    def finish(self) -> Iterable[Problem]:
        """Counts what is left; yields the errors of rows that are too long, and last the outlier, if there is one."""
        self._send()
        while self._ahead:
            yield from self._take()
        uneven = statistics.uneven_lengths(self._tokens.distribution(), self._rows, "tokens", UNEVEN_TOKENS)
        if uneven is not None:
            yield uneven

    def statistics(self) -> TokenStatistics:
        """The counts of all rows; to be asked for after `finish`."""
        tokens, supervised = self._tokens.distribution(), self._supervised.distribution()
        return TokenStatistics(tokens, supervised, self._context_tokens, self._too_long)

    def _send(self) -> None:
        """Gives the batch to the tokenizer, which begins to count, and starts a new one."""
        self._ahead.append((self._batch, self._tokenizer.count_later(self._batch.texts)))
        self._batch = _Batch()

    def _take(self) -> list[Problem]:
        """Waits for the oldest batch and adds its rows to the statistics; returns the errors of those too long."""
        batch, counts = self._ahead.popleft()
        next_counts = iter(counts())
        problems: list[Problem] = []
        for line, sequences in batch.rows:
            sequence_counts = [
                [(piece, piece.n_tokens if piece.text is None else next(next_counts)) for piece in pieces]
                for pieces in sequences
            ]
            lengths = [sum(count for _, count in pieces) for pieces in sequence_counts]
            if max(lengths) > self._context_tokens:
                problems.append(self._over(line, max(lengths)))
                continue
            self._rows += 1
            self._tokens.add(line, sum(lengths))
            self._supervised.add(
                line, sum(count for pieces in sequence_counts for piece, count in pieces if piece.learned)
            )
        return problems

    def _over(self, line: int, length: int, at_least: bool = False) -> Problem:
        """Counts a row that is too long; returns its error. `at_least`: it has `length` tokens or more."""
        self._too_long += 1
        error = renderer.too_many_tokens(length, self._context_tokens, at_least)
        return Problem(line, "messages", error.code, Severity.ERROR, error.message, error.fix)


def _characters(example: Example) -> int:
    return sum(len(message.content) for message in example.messages)
