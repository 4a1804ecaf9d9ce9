"""A row as the checks of a whole file see it: what the model reads, what it learns to write, all of its text."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from luthier.data.rows.preference import Preference
from luthier.data.rows.supervised import Example, Message, Role

_IMAGE = re.compile(rb'"type"\s*:\s*"(?:input_)?image')


@dataclass(frozen=True, slots=True)
class RowText:
    """A row cut in two: `answer` begins with the last message that is learned, `prompt` is all before it.

    Of a preference they are its input and its preferred output, and `rejected` is the other one, () for other rows.
    `image_hash` stands for images, which messages do not hold; 0 without any.
    """

    prompt: tuple[Message, ...]
    answer: tuple[Message, ...]
    tools: tuple[Mapping[str, object], ...] = ()
    rejected: tuple[Message, ...] = ()
    image_hash: int = 0

    @property
    def system(self) -> str | None:
        """The system prompt that the row begins with, None if it begins with another message."""
        first = self.prompt[0] if self.prompt else None
        return first.content if first is not None and first.role in (Role.SYSTEM, Role.DEVELOPER) else None

    @property
    def prompt_hash(self) -> int:
        """Equal for equal prompts, tools included; valid only within this process."""
        tools = repr(self.tools) if self.tools else ""
        return hash((_key_text(self.prompt) + tools, self.image_hash))

    @property
    def answer_hash(self) -> int:
        """Equal for equal answers; valid only within this process."""
        return hash(_key_text(self.answer))

    @property
    def rejected_hash(self) -> int:
        return hash(_key_text(self.rejected))

    def messages_with_paths(self) -> Iterator[tuple[str, Message]]:
        """Every message with its path in the row, as a Problem has it."""
        if not self.rejected:
            yield from ((f"messages[{index}]", message) for index, message in enumerate(self.prompt + self.answer))
            return
        parts = (("input.messages", self.prompt), ("preferred_output", self.answer))
        for name, messages in (*parts, ("non_preferred_output", self.rejected)):
            yield from ((f"{name}[{index}]", message) for index, message in enumerate(messages))

    @property
    def prompt_characters(self) -> int:
        return sum(len(message.content) for message in self.prompt)

    @property
    def answer_characters(self) -> int:
        return sum(len(message.content) for message in self.answer)


def extract(example: Example | Preference, raw: bytes = b"") -> RowText:
    """The view of a row, whose line is `raw`. A supervised one is cut before the last message with weight.

    Messages hold no images, so that rows with any, by their lines, are equal where the whole lines are.
    """
    image_hash = hash(raw) if b"image" in raw and _IMAGE.search(raw) else 0
    if isinstance(example, Preference):
        return RowText(example.messages, example.preferred, example.tools, example.non_preferred, image_hash)
    messages = example.messages
    learned = next(index for index in range(len(messages) - 1, -1, -1) if messages[index].weight)
    return RowText(messages[:learned], messages[learned:], example.tools, (), image_hash)


def _key_text(messages: tuple[Message, ...]) -> str:
    """All that distinguishes messages, in one string."""
    parts: list[str] = []
    for message in messages:
        parts += (message.role, message.content)
        if message.tool_calls or message.tool_call_id or message.name:
            parts.append(repr((message.tool_calls, message.tool_call_id, message.name)))
    return "\0".join(parts)
