"""What a model's chat template does to chats that its user should know of: asked with a few chats of our own."""

from luthier.data.messages import Example, Message, Role
from luthier.data.render import Renderer, Unrenderable

_USER = Message(Role.USER, "What is it?", 0.0)
_ANSWER = Message(Role.ASSISTANT, "A hat.", 1.0)
_AGAIN = (Message(Role.USER, "And now?", 0.0), Message(Role.ASSISTANT, "A cap.", 1.0))
_SYSTEM = Message(Role.SYSTEM, "Be kind.", 0.0)
_REASONED = Message(Role.ASSISTANT, "<think>Let me look.</think>A hat.", 1.0)
_SPACED = Message(Role.ASSISTANT, "  a hat\n\n", 1.0)


def findings(renderer: Renderer) -> list[str]:
    """Sentences, for events and the command line; none of a template that leaves chats as they are.

    Raises Unrenderable for a template from which not even a question and its answer can be learned.
    """
    renderer.render(Example((_USER, _ANSWER)))
    found = []
    if not renderer.writes_end(Example((_USER, _ANSWER)), 1):
        found.append(
            "it writes no end-of-turn token behind an answer, so the tokenizer's own end token is learned there: "
            "without one the model would never stop"
        )
    if _apart(renderer, (_USER, _ANSWER, *_AGAIN)):
        found.append("it writes earlier turns otherwise once the chat goes on, so each answer is learned on its own")
    elif _apart(renderer, (_USER, _REASONED, *_AGAIN)):
        found.append("it drops the reasoning of earlier turns, so each answer of such a row is learned on its own")
    if not _takes(renderer, (_SYSTEM, _USER, _ANSWER)):
        found.append("it takes no system message: rows that have one are refused")
    elif _apart(renderer, (_SYSTEM, _USER, _ANSWER, *_AGAIN)) and not _apart(renderer, (_USER, _ANSWER, *_AGAIN)):
        found.append(
            "it moves the system's words as the chat goes on, so each answer of such a row is learned on its own"
        )
    if _takes(renderer, (_USER, _SPACED)) and _SPACED.content not in renderer.turn(Example((_USER, _SPACED)), 1)[1]:
        found.append("it strips the spaces around an answer, so they are not learned")
    return [f"The base model's chat template is one to know of: {words}." for words in found]


def _apart(renderer: Renderer, messages: tuple[Message, ...]) -> bool:
    """Whether the answers cannot stand in one sequence; False where the template takes no such chat at all."""
    return _takes(renderer, messages) and len(renderer.render(Example(messages))) > 1


def _takes(renderer: Renderer, messages: tuple[Message, ...]) -> bool:
    try:
        renderer.render(Example(messages))
    except Unrenderable:
        return False
    return True
