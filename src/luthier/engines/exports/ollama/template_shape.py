"""The shape of a chat template, found by what it writes: what is around each turn, and where a system message goes.

Only the template's own texts are looked at, never its source or its name. A template of another shape gives a wrong
translation or none: the proof chats tell.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import jinja2

from luthier.core.errors import Unsupported
from luthier.data.rendering.template_text import TemplateRefused

Render = Callable[[Sequence[Mapping[str, str]], bool], str]
"""The model's own template for a chat, with a generation prompt or without.

Raises TemplateRefused or jinja2's TemplateError.
"""

_SYSTEM, _USER, _ASSISTANT, _LAST = "Qsystemq", "Quserq", "Qassistantq", "Qlastq"


class SystemPlace(StrEnum):
    """Where the text of a system message is written."""

    OWN_TURN = "own turn"
    FIRST_USER_TURN = "first user turn"
    LAST_USER_TURN = "last user turn"


@dataclass(frozen=True, slots=True)
class Turn:
    """What a template writes around a message of one role, and whether it strips the message's outer white space."""

    before: str
    after: str
    trims: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """A template as text around messages.

    `start` begins every chat; then comes the first system message as `system` says, or `without_system`.
    `generation` is where the model begins to write.
    """

    start: str
    without_system: str
    system: Turn
    system_place: SystemPlace
    user: Turn
    assistant: Turn
    generation: str


def find_shape(render: Render) -> Shape:
    """The shape of a template. Raises Unsupported for one that is not made of turns in a fixed frame."""
    question = [_message("user", _USER)]
    answered = [*question, _message("assistant", _ASSISTANT)]
    chat = render([*answered, _message("user", _LAST)], True)
    head, tail = _around(render(question, True), _USER)
    _, between = _between(chat, _USER, _ASSISTANT)
    _, behind_answer = _around(render(answered, True), _ASSISTANT)
    _, next_question = _between(chat, _ASSISTANT, _LAST)
    _, ended = _around(render(question, False), _USER)
    generation = _generation(tail, ended, behind_answer, next_question)
    user_after = _without_suffix(tail, generation)
    assistant_before = _without_prefix(between, user_after)
    assistant_after = _without_suffix(behind_answer, generation)
    user_before = _without_prefix(next_question, assistant_after)
    user = Turn(user_before, user_after, _trims(render, "user"))
    assistant = Turn(assistant_before, assistant_after, _trims(render, "assistant"))
    opening = _without_suffix(head, user_before)
    start, without_system, system, place = _system(render, opening, user)
    return Shape(start, without_system, system, place, user, assistant, generation)


def _generation(tail: str, ended: str, behind_answer: str, next_question: str) -> str:
    """What begins an answer: the end of `tail`, which follows a question, and of `behind_answer`.

    As a rule it is what a generation prompt adds to `ended`, the same without one. Some templates end a whole chat in
    another way: there it is what a next answer has in place of `next_question`.
    """
    added = tail.removeprefix(ended)
    if tail.startswith(ended) and behind_answer.endswith(added):
        return added
    return behind_answer.removeprefix(_common_beginning(behind_answer, next_question))


def _system(render: Render, opening: str, user: Turn) -> tuple[str, str, Turn, SystemPlace]:
    """How a chat starts, with what if it has no system message, how one is written, and where.

    `opening` is what precedes the first user's turn of a chat without one.
    """
    try:
        short = render([_message("system", _SYSTEM), _message("user", _USER)], True)
        turns = [_message("system", _SYSTEM), _message("user", _USER), _message("assistant", _ASSISTANT)]
        long = render([*turns, _message("user", _LAST)], True)
    except (TemplateRefused, jinja2.TemplateError):
        raise other_shape() from None
    trims = _trims(render, "system")
    head, between = _between(short, _SYSTEM, _USER)
    is_folded = head.startswith(opening + user.before)
    if between.endswith(user.before) and not is_folded:
        start = _common_beginning(opening, head)
        turn = Turn(_without_prefix(head, start), between.removesuffix(user.before), trims)
        return start, _without_prefix(opening, start), turn, SystemPlace.OWN_TURN
    if not is_folded:
        raise other_shape()
    is_first = long.index(_SYSTEM) < long.index(_ASSISTANT)
    place = SystemPlace.FIRST_USER_TURN if is_first else SystemPlace.LAST_USER_TURN
    return opening, "", Turn(head.removeprefix(opening + user.before), between, trims), place


def _trims(render: Render, role: str) -> bool:
    """Whether the template strips the outer white space of a message of this role."""
    texts = {"system": _SYSTEM, "user": _USER, "assistant": _ASSISTANT} | {role: f"  {_LAST}  "}
    turns = [_message(other, texts[other]) for other in ("user", "assistant")]
    if role == "system":
        turns.insert(0, _message("system", texts["system"]))
    return texts[role] not in render([*turns, _message("user", "?")], True)


def _message(role: str, content: str) -> Mapping[str, str]:
    return {"role": role, "content": content}


def _around(text: str, mark: str) -> tuple[str, str]:
    """What is before and behind a mark. Raises Unsupported unless it is there once."""
    if text.count(mark) != 1:
        raise other_shape()
    before, _, after = text.partition(mark)
    return before, after


def _between(text: str, first: str, second: str) -> tuple[str, str]:
    """What is before the first mark, and between both. Raises Unsupported unless each is there once, in this order."""
    before, rest = _around(text, first)
    between, _ = _around(rest, second)
    return before, between


def _common_beginning(first: str, second: str) -> str:
    same = 0
    while same < min(len(first), len(second)) and first[same] == second[same]:
        same += 1
    return first[:same]


def _without_prefix(text: str, prefix: str) -> str:
    if not text.startswith(prefix):
        raise other_shape()
    return text.removeprefix(prefix)


def _without_suffix(text: str, suffix: str) -> str:
    if not text.endswith(suffix):
        raise other_shape()
    return text.removesuffix(suffix)


def other_shape() -> Unsupported:
    """The error for a template that no translation of ours says."""
    return Unsupported(
        "template_not_translatable",
        "This model's chat template cannot be said in Ollama's template language, so that every answer there would "
        "begin from another prompt than in training. Take the format gguf: the template itself is in that file.",
    )
