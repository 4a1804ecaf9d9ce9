"""How a model writes a call of a function: our own form, or the one that its chat template shows in a sample call.

Read by `stream_parser`, written into grammars by `answer_grammar`.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.data.tools.prompt_format import BEFORE_ARGUMENTS, HEAD, OPEN, TAIL


@dataclass(frozen=True, slots=True)
class CallForm:
    """A call is `head`, the name as JSON, `before_arguments`, the arguments as a JSON object, `tail`.

    Calls follow one another behind `separator`, None if an answer has one call at most. An answer that begins with
    `mark` is calls, any other is words.
    """

    head: str
    before_arguments: str
    tail: str
    separator: str | None
    mark: str

    def text(self, name: str, arguments: str) -> str:
        """A call as the model writes it; `arguments` is JSON text, taken as it is."""
        return f"{self.head}{json.dumps(name, ensure_ascii=False)}{self.before_arguments}{arguments}{self.tail}"


OURS = CallForm(HEAD, BEFORE_ARGUMENTS, TAIL, "\n", OPEN)
"""That of `prompt_format`, in which most open models with tools were trained."""


def detect(
    names: Sequence[str], arguments: Sequence[str], one: str, two: str | None, ends: Sequence[str]
) -> CallForm | None:
    """The form in which a template wrote sample calls; None if it is none that can be read.

    `one` is its text of a call of the first name with the first arguments, `two` of that and a second call, None if it
    refuses two; the arguments are in `one` and `two` spaced as `json.dumps` does. `ends` are spellings that end a turn.
    """
    said = _without_end(one, ends)
    pattern = f"(?s)(.+?){re.escape(json.dumps(names[0]))}(.+?){re.escape(arguments[0])}(.*)"
    found = re.fullmatch(pattern, said)
    if found is None:
        return None
    head, before, tail = found.groups()
    form = CallForm(head, before, tail, None, OPEN if head.startswith(OPEN) else head)
    if json.dumps(names[0]) in before or not _is_mark(form.mark):
        return None
    if two is None:
        return form
    first, second = form.text(names[0], arguments[0]), form.text(names[1], arguments[1])
    both = _without_end(two, ends)
    if both == first:  # each call ends the turn
        return form
    if not (both.startswith(first) and both.endswith(second) and len(both) >= len(first) + len(second)):
        return None
    separator = both[len(first) : len(both) - len(second)]
    return None if separator.strip(" \n;,") else CallForm(head, before, tail, separator, form.mark)


def _is_mark(text: str) -> bool:
    """Whether a beginning tells calls from words: more than blanks and a bracket."""
    return len(text.strip(' \n{[("')) >= 3


def _without_end(text: str, ends: Sequence[str]) -> str:
    """The text up to the first spelling that ends a turn, without blanks at either side."""
    places = [place for end in ends if end and (place := text.find(end)) >= 0]
    return text[: min(places, default=len(text))].strip()
