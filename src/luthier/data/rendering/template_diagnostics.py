"""Peculiarities of a model's chat template that its user should know of, found by rendering a few sample chats.

The trainer (`trainer/dataset/chat_template.py`) asks for them when a model is prepared.
"""

from luthier.data.rendering.renderer import Renderer, Unrenderable
from luthier.data.rows.supervised import Example, Message, Role

_USER = Message(Role.USER, "What is it?", 0.0)
_ANSWER = Message(Role.ASSISTANT, "A hat.", 1.0)
_AGAIN = (Message(Role.USER, "And now?", 0.0), Message(Role.ASSISTANT, "A cap.", 1.0))
_SYSTEM = Message(Role.SYSTEM, "Be kind.", 0.0)
_REASONED = Message(Role.ASSISTANT, "<think>Let me look.</think>A hat.", 1.0)
_SPACED = Message(Role.ASSISTANT, "  a hat\n\n", 1.0)


def diagnose(renderer: Renderer) -> list[str]:
    """A sentence for each peculiarity, for events and the command line; [] for a template without any.

    Raises Unrenderable for a template from which not even a question and its answer can be learned.
    """
    renderer.render(Example((_USER, _ANSWER)))
    peculiarities = []
    if not renderer.writes_end(Example((_USER, _ANSWER)), 1):
        peculiarities.append(
            "it writes no end-of-turn token after an answer, so the tokenizer's own end token is learned there: "
            "without one the model would never stop"
        )
    if _splits(renderer, (_USER, _ANSWER, *_AGAIN)):
        peculiarities.append(
            "it renders earlier turns differently once the chat continues, so each answer is learned on its own"
        )
    elif _splits(renderer, (_USER, _REASONED, *_AGAIN)):
        peculiarities.append(
            "it drops the reasoning of earlier turns, so each answer of such a row is learned on its own"
        )
    if not _accepts(renderer, (_SYSTEM, _USER, _ANSWER)):
        peculiarities.append("it accepts no system message: rows that have one are refused")
    elif _splits(renderer, (_SYSTEM, _USER, _ANSWER, *_AGAIN)) and not _splits(renderer, (_USER, _ANSWER, *_AGAIN)):
        peculiarities.append(
            "it moves the system message as the chat continues, so each answer of such a row is learned on its own"
        )
    if _accepts(renderer, (_USER, _SPACED)) and _SPACED.content not in renderer.turn(Example((_USER, _SPACED)), 1)[1]:
        peculiarities.append("it strips the spaces around an answer, so they are not learned")
    if _can_be_forged(renderer):
        peculiarities.append(
            "it separates a question from its answer by plain text only, which a message can hold as well: one that "
            "has it reads as a further turn"
        )
    return [f"The base model's chat template has a peculiarity: {peculiarity}." for peculiarity in peculiarities]


def _can_be_forged(renderer: Renderer) -> bool:
    """Whether no control token is between a question and its answer, so that a message can imitate a turn."""
    text = renderer.text((_USER,), (), True)
    return not renderer.spells_control(text[text.rindex(_USER.content) + len(_USER.content) :])


def _splits(renderer: Renderer, messages: tuple[Message, ...]) -> bool:
    """Whether the answers of a chat need several training sequences; False if the template accepts no such chat."""
    return _accepts(renderer, messages) and len(renderer.render(Example(messages))) > 1


def _accepts(renderer: Renderer, messages: tuple[Message, ...]) -> bool:
    """Whether the chat can be rendered for training."""
    try:
        renderer.render(Example(messages))
    except Unrenderable:
        return False
    return True
