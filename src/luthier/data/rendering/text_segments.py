"""Splits an example into the texts that the renderer tokenizes one by one, with one run of the template per row.

That needs to know where in the template's text the prompt of an answer ends. It is found by the words that the template
writes in front of every answer, and checked against the renderer for the first two rows of each order of roles,
and for every 256th row. Orders that once disagreed, and rows of any unusual kind, always go through the renderer.
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
    """A ChatTokenizer that counts many texts at once."""

    @property
    def end_texts(self) -> tuple[str, ...]:
        """How the tokens of `end_ids` are written."""
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
    """A stretch of a sequence: its text, to be tokenized by itself, or where that has been done its tokens' number."""

    learned: bool
    text: str | None
    n_tokens: int = 0


Sequence = list[Segment]


@dataclass(slots=True)
class _RoleOrder:
    """What is known of the rows with one order of roles; `opening` is None where the quick way does not hold."""

    opening: str | None
    rows: int = 0


class SegmentSplitter:
    """Knows one model's template."""

    def __init__(self, tokenizer: CountingTokenizer) -> None:
        self._tokenizer = tokenizer
        self._end_texts = tokenizer.end_texts
        self._renderer = Renderer(tokenizer, sys.maxsize)
        self._orders: dict[str, _RoleOrder] = {}
        self._rows = 0

    def split(self, example: Example) -> list[Sequence]:
        """The pieces of every sequence that the example becomes. Raises Unrenderable."""
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
        """Whether the renderer gives the same tokens, up to the second answer: the others follow in the same way."""
        prefix = Example(example.messages[: learned[1] + 1], example.tools)
        fast = self._fast_split(prefix, learned[:2], opening)
        rendered = self._renderer.render(prefix)
        return fast is not None and self._ids(fast) == [list(sequence.token_ids) for sequence in rendered]

    def _order(self, example: Example, learned: list[int]) -> _RoleOrder:
        name = " ".join([message.role + "+" * bool(message.weight) for message in example.messages])
        order = self._orders.get(name)
        if order is None:
            order = self._orders[name] = _RoleOrder(self._opening(example, learned[0]))
        return order

    def _opening(self, example: Example, index: int) -> str | None:
        """What the template writes between a message and the answer to it."""
        try:
            prompt, _ = self._renderer.turn(example, index)
            before = self._renderer.text(example.messages[:index], example.tools, False)
        except Unrenderable:
            return None
        return prompt[len(before) :] if prompt.startswith(before) and prompt != before else None

    def _fast_split(self, example: Example, learned: list[int], opening: str) -> Sequence | None:
        """The pieces by the opening; None for a row where they might not be the renderer's."""
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
        """The renderer's pieces of an example with one learned answer."""
        prompt, answer = self._renderer.turn(example, index)
        end = max(answer.rfind(end) + len(end) if end in answer else 0 for end in (*self._end_texts, "\0"))
        if not end or answer[end:].strip():  # the renderer ends it by a token of its own, or refuses it
            return self._render_split(example)
        return [[Segment(False, prompt), Segment(True, answer[:end])]]

    def _render_split(self, example: Example) -> list[Sequence]:
        return [_to_segments(sequence) for sequence in self._renderer.render(example)]

    def _ids(self, segments: Sequence) -> list[list[int]]:
        """The tokens of the pieces, in the form of the renderer's sequences: here one."""
        return [[id for piece in segments for id in self._tokenizer.token_ids(piece.text or "")]]


def _to_segments(sequence: Rendered) -> Sequence:
    learned = sum(map(bool, sequence.loss_weights))
    return [Segment(False, None, len(sequence.token_ids) - learned), Segment(True, None, learned)]
