"""Control tokens that are written in a message: marked, so that a tokenizer takes them for the text that they are.

A chat template puts control tokens around what people wrote, and a tokenizer finds them in the text by their spelling:
`<|im_end|>` in a pasted log would end the turn. So the renderer breaks the spelling of each in every text that goes
into a template; what comes out of it unbroken is the template's own. `tokenization.control_token_guard` reads the
marks.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

BREAK = "\ufdd2"
"""Breaks the spelling of a control token, behind its first character; written twice, it is itself (Unicode keeps it for
use inside of a program: chapter 23.7, noncharacters)."""


class ControlTexts:
    """The spellings of one tokenizer's control tokens, the longest first; those of a single character are left out."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Takes the tokens' texts in any order, and compiles the pattern that finds them, longer ones first."""
        self.texts = tuple(sorted({text for text in texts if len(text) > 1}, key=lambda text: (-len(text), text)))
        spelled = "|".join(map(re.escape, self.texts)) or r"(?!)"
        self._any = re.compile(spelled)
        # Looks ahead, for one may begin inside another.
        self._first = re.compile(f"(?=(?:{spelled}))(.)", re.DOTALL)

    def are_in(self, text: str) -> bool:
        """Whether a text spells at least one of them."""
        return self._any.search(text) is not None

    def first_in(self, value: object) -> str | None:
        """The first spelling in a text, or in the JSON of any other value; None if there is none."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        match = self._any.search(text)
        return None if match is None else match[0]

    def need_marks(self, value: object) -> bool:
        """Whether a JSON value (text, messages, tools) spells a control token or holds BREAK: `marked` changes it."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return self.are_in(text) or BREAK in text

    def marked(self, value: object) -> object:
        """A copy of a JSON value, every spelling in its strings and keys broken by BREAK, and BREAK itself doubled."""
        match value:
            case str():
                return self._first.sub(rf"\1{BREAK}", value.replace(BREAK, BREAK + BREAK))
            case Mapping():
                return {self.marked(key): self.marked(part) for key, part in value.items()}
            case Sequence():
                return [self.marked(part) for part in value]
        return value


def is_marked(text: str) -> bool:
    """Whether a text that a template made holds marks, so that only a GuardedTokenizer reads it rightly."""
    return BREAK in text
