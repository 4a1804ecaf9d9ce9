"""Splits an example into texts that are tokenized one by one, with one run of the template per row, to count tokens.

`data/checks/token_counts.py` uses it, where the renderer would take too long for a whole file. It needs to know where
in the template's text the prompt of an answer ends: found by the words that the template writes in front of every
answer, and checked against the renderer for the first two rows of each order of roles, and for every 256th row. Orders
that once disagreed, and rows of any unusual kind, always go through the renderer.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from luthier.data.rendering.renderer import ChatTokenizer, Rendered, Renderer, Unrenderable
from luthier.data.rows.supervised import Example

_CHECKED_FIRST = 2
_CHECK_EVERY = 256


class CountingTokenizer(ChatTokenizer, Protocol):
    """A ChatTokenizer that counts the tokens of many texts at once."""

    @property
    def end_texts(self) -> tuple[str, ...]:
        """How the tokens of `end_ids` are spelled."""
        ...

    @property
    def longest_token(self) -> int:
        """Characters of the longest token."""
        ...

    def count_later(self, texts: list[str]) -> Callable[[], list[int]]:
        """Begins to count the tokens of each text; the call that is returned waits for the counts."""
        ...


@dataclass(slots=True)
class Segment:
    """A stretch of a sequence: its text, to be tokenized by itself; or None, and the number of its tokens.

    `learned` tells an answer's tokens from those that the model only reads.
    """

    learned: bool
    text: str | None
    n_tokens: int = 0


Sequence = list[Segment]


@dataclass(slots=True)
class _RoleOrder:
    """What is known of the rows with one order of roles, of which `rows` were seen.

    `opening` is the template's text in front of an answer; None where the quick way does not hold.
    """

    opening: str | None
    rows: int = 0


class SegmentSplitter:
    """Splits the examples of one file for one model; remembers for each order of roles whether the quick way holds."""

    def __init__(self, tokenizer: CountingTokenizer) -> None:
        """Makes a Renderer for the tokenizer, without a limit of length; that renders a sample chat."""
        self._tokenizer = tokenizer
        self._end_texts = tokenizer.end_texts
        self._renderer = Renderer(tokenizer, sys.maxsize)
        self._orders: dict[str, _RoleOrder] = {}
        self._rows = 0

    def split(self, example: Example) -> list[Sequence]:
        """The segments of every training sequence that the example becomes. Raises Unrenderable.

        Counts the row, and gives the quick way up for its order of roles where the renderer disagrees. Knows no limit
        of length.
        """
        # Where a text is no token sequence by itself: a space is put before it, or marks in it are to be read.
        if self._renderer.adds_space or self._renderer.holds_controls(example):
            return self._render_split(example)
        learned = [index for index, message in enumerate(example.messages) if message.weight]
        order = self._order(example, learned)
        order.rows += 1
        self._rows += 1
        fast = None if order.opening is None else self._fast_split(example, learned, order.opening)
        if fast is not None and order.rows > _CHECKED_FIRST and self._rows % _CHECK_EVERY:
            return [fast]
        if len(learned) == 1:
            exact = self._render_answer_split(example, learned[0])
            if fast is not None and [fast] != exact:
                order.opening = None
            return exact
        if fast is not None and order.opening is not None and self._matches_renderer(example, learned, order.opening):
            return [fast]
        if fast is not None:
            order.opening = None
        return self._render_split(example)

    def _matches_renderer(self, example: Example, learned: list[int], opening: str) -> bool:
        """Whether the renderer gives the same tokens up to the second answer; the others follow in the same way."""
        prefix = Example(example.messages[: learned[1] + 1], example.tools)
        fast = self._fast_split(prefix, learned[:2], opening)
        rendered = self._renderer.render(prefix)
        return fast is not None and self._ids(fast) == [list(sequence.token_ids) for sequence in rendered]

    def _order(self, example: Example, learned: list[int]) -> _RoleOrder:
        """What is known of the example's order of roles and learned answers; finds the opening for a new one."""
        name = " ".join([message.role + "+" * bool(message.weight) for message in example.messages])
        order = self._orders.get(name)
        if order is None:
            order = self._orders[name] = _RoleOrder(self._opening(example, learned[0]))
        return order

    def _opening(self, example: Example, index: int) -> str | None:
        """The template's text between a message and the answer to it.

        None where the template refuses the messages, changes what is before, or writes nothing there.
        """
        try:
            prompt, _ = self._renderer.turn(example, index)
            before = self._renderer.text(example.messages[:index], example.tools, False)
        except Unrenderable:
            return None
        return prompt[len(before) :] if prompt.startswith(before) and prompt != before else None

    def _fast_split(self, example: Example, learned: list[int], opening: str) -> Sequence | None:
        """The segments of the one sequence, cut at each opening; None for a row where they might not be the renderer's.

        None for empty answers, tool calls, and answers that are not found with an end token behind. Raises
        Unrenderable.
        """
        full_text = self._renderer.text(example.messages[: learned[-1] + 1], example.tools, False)
        pieces: Sequence = []
        stop = 0
        for index in learned:
            message = example.messages[index]
            # A space at its start may become one token with the opening, where a later prompt has both.
            if not message.content or message.tool_calls or (len(learned) > 1 and message.content[0].isspace()):
                return None
            start_of_opening = full_text.find(opening + message.content, stop) if index != learned[-1] else -1
            start_of_opening = (
                full_text.rfind(opening + message.content, stop) if index == learned[-1] else start_of_opening
            )
            start = start_of_opening + len(opening)
            end = next(
                (end for end in self._end_texts if full_text.startswith(end, start + len(message.content))), None
            )
            if start_of_opening < 0 or end is None:
                return None
            before, stop = stop, start + len(message.content) + len(end)
            pieces += [Segment(False, full_text[before:start]), Segment(True, full_text[start:stop])]
        return pieces

    def _render_answer_split(self, example: Example, index: int) -> list[Sequence]:
        """The renderer's segments of an example with one learned answer. Raises Unrenderable."""
        prompt, answer = self._renderer.turn(example, index)
        end = max(answer.rfind(end) + len(end) if end in answer else 0 for end in (*self._end_texts, "\0"))
        if not end or answer[end:].strip():  # the renderer ends it by a token of its own, or refuses it
            return self._render_split(example)
        return [[Segment(False, prompt), Segment(True, answer[:end])]]

    def _render_split(self, example: Example) -> list[Sequence]:
        """The renderer's sequences as segments of token counts. Raises Unrenderable."""
        return [_to_segments(sequence) for sequence in self._renderer.render(example)]

    def _ids(self, segments: Sequence) -> list[list[int]]:
        """The token ids of the segments together, in a list of one sequence, as the renderer gives them."""
        return [[id for piece in segments for id in self._tokenizer.token_ids(piece.text or "")]]


def _to_segments(sequence: Rendered) -> Sequence:
    """Two segments without text: the number of tokens that are only read, and of those that are learned."""
    learned = sum(map(bool, sequence.loss_weights))
    return [Segment(False, None, len(sequence.token_ids) - learned), Segment(True, None, learned)]
