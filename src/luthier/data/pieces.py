"""Takes an example apart into the texts that the renderer tokenizes one by one, with one run of the template a row.

That needs to know where in the template's text the prompt of an answer ends. It is found by the words that the template
writes in front of every answer, and held against the renderer's own way for the first two rows of each order of roles,
and for every 256th row. Orders that once disagreed, and rows of any odd kind, go the renderer's way always.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from luthier.data.messages import Example
from luthier.data.render import ChatTokenizer, Rendered, Renderer, Unrenderable

_FIRST_ROWS = 2
_EVERY = 256


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
class Piece:
    """A stretch of a sequence: its text, to be tokenized by itself, or where that has been done its tokens' number."""

    learned: bool
    text: str | None
    n_tokens: int = 0


Sequence = list[Piece]


@dataclass(slots=True)
class _Order:
    """What is known of the rows with one order of roles; `opening` is None where the quick way does not hold."""

    opening: str | None
    rows: int = 0


class Pieces:
    """Knows one model's template."""

    def __init__(self, tokenizer: CountingTokenizer) -> None:
        self._tokenizer = tokenizer
        self._end_texts = tokenizer.end_texts
        self._renderer = Renderer(tokenizer, sys.maxsize)
        self._orders: dict[str, _Order] = {}
        self._rows = 0

    def of(self, example: Example) -> list[Sequence]:
        """The pieces of every sequence that the example becomes. Raises Unrenderable."""
        if self._renderer.adds_space:  # no text can be tokenized by itself
            return self._exact(example)
        learned = [place for place, message in enumerate(example.messages) if message.weight]
        order = self._order(example, learned)
        order.rows += 1
        self._rows += 1
        quick = None if order.opening is None else self._quick(example, learned, order.opening)
        if quick is not None and order.rows > _FIRST_ROWS and self._rows % _EVERY:
            return [quick]
        if len(learned) == 1:
            exact = self._exact_answer(example, learned[0])
            if quick is not None and [quick] != exact:
                order.opening = None
            return exact
        if quick is not None and order.opening is not None and self._holds(example, learned, order.opening):
            return [quick]
        if quick is not None:
            order.opening = None
        return self._exact(example)

    def _holds(self, example: Example, learned: list[int], opening: str) -> bool:
        """Whether the renderer gives the same tokens, up to the second answer: the others follow in the same way."""
        short = Example(example.messages[: learned[1] + 1], example.tools)
        quick = self._quick(short, learned[:2], opening)
        rendered = self._renderer.render(short)
        return quick is not None and self._ids(quick) == [list(sequence.token_ids) for sequence in rendered]

    def _order(self, example: Example, learned: list[int]) -> _Order:
        name = " ".join([message.role + "+" * bool(message.weight) for message in example.messages])
        known = self._orders.get(name)
        if known is None:
            known = self._orders[name] = _Order(self._opening(example, learned[0]))
        return known

    def _opening(self, example: Example, index: int) -> str | None:
        """What the template writes between a message and the answer to it."""
        try:
            prompt, _ = self._renderer.turn(example, index)
            before = self._renderer.text(example.messages[:index], example.tools, False)
        except Unrenderable:
            return None
        return prompt[len(before) :] if prompt.startswith(before) and prompt != before else None

    def _quick(self, example: Example, learned: list[int], opening: str) -> Sequence | None:
        """The pieces by the opening; None for a row where they might not be the renderer's."""
        whole = self._renderer.text(example.messages[: learned[-1] + 1], example.tools, False)
        pieces: Sequence = []
        stop = 0
        for place in learned:
            message = example.messages[place]
            # A space at its start may become one token with the opening, where a later prompt has both.
            if not message.content or message.tool_calls or (len(learned) > 1 and message.content[0].isspace()):
                return None
            found = whole.find(opening + message.content, stop) if place != learned[-1] else -1
            found = whole.rfind(opening + message.content, stop) if place == learned[-1] else found
            start = found + len(opening)
            end = next((end for end in self._end_texts if whole.startswith(end, start + len(message.content))), None)
            if found < 0 or end is None:
                return None
            before, stop = stop, start + len(message.content) + len(end)
            pieces += [Piece(False, whole[before:start]), Piece(True, whole[start:stop])]
        return pieces

    def _exact_answer(self, example: Example, index: int) -> list[Sequence]:
        """The renderer's pieces of an example with one learned answer."""
        prompt, answer = self._renderer.turn(example, index)
        end = max(answer.rfind(end) + len(end) if end in answer else 0 for end in (*self._end_texts, "\0"))
        if not end or answer[end:].strip():  # the renderer ends it by a token of its own, or refuses it
            return self._exact(example)
        return [[Piece(False, prompt), Piece(True, answer[:end])]]

    def _exact(self, example: Example) -> list[Sequence]:
        return [_counted(sequence) for sequence in self._renderer.render(example)]

    def _ids(self, quick: Sequence) -> list[list[int]]:
        """The tokens of the pieces, in the form of the renderer's sequences: here one."""
        return [[id for piece in quick for id in self._tokenizer.token_ids(piece.text or "")]]


def _counted(sequence: Rendered) -> Sequence:
    learned = sum(map(bool, sequence.loss_weights))
    return [Piece(False, None, len(sequence.token_ids) - learned), Piece(True, None, learned)]
