"""Names of participants: whether a base model's chat template shows them to the model, and rows that have some."""

from luthier.data.checks.row_text import RowText
from luthier.data.problems.problem import Problem, Severity
from luthier.data.rendering.renderer import Renderer, Unrenderable
from luthier.data.rows.supervised import Message, Role

_NAME = "Aurelia"
_PROBE_CHAT = (
    Message(Role.USER, "Tea?", 0.0, name=_NAME),
    Message(Role.ASSISTANT, "Yes.", 1.0),
)
_PARTICIPANTS = frozenset((Role.SYSTEM, Role.DEVELOPER, Role.USER, Role.ASSISTANT))
"""Roles whose name is that of a participant; tools and functions are named for another reason."""


def template_shows_names(renderer: Renderer) -> bool:
    """Whether the template writes a user's name, tried with a probe chat; False if it refuses the chat."""
    try:
        return _NAME in renderer.text(_PROBE_CHAT, (), False)
    except Unrenderable:
        return False


def name_problem(line: int, raw: bytes, view: RowText, shown: bool | None) -> Problem | None:
    """The warning for the first participant's name in a row that the model is not shown, None if there is none.

    `shown` is what template_shows_names said of the base model, None if no base model is known yet.
    """
    if shown or b'"name"' not in raw:
        return None
    path = next(
        (path for path, message in view.messages_with_paths() if message.name and message.role in _PARTICIPANTS), None
    )
    if path is None:
        return None
    template = "most base models' chat templates do" if shown is None else "this base model's chat template does"
    return Problem(
        line,
        f"{path}.name",
        "name_not_shown",
        Severity.WARNING,
        f"{template} not show names, so the model cannot tell participants apart by them.",
        'Write the name into the text, as in "content": "Ines: Hello!", in training and in chats alike.',
    )
