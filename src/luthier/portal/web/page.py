"""A page as a value: its path, what a caller needs for it, and the function that answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from starlette.responses import Response

from luthier.core.roles import Action
from luthier.portal.web.visit import Visit


@dataclass(frozen=True, slots=True)
class Page:
    """One path below /portal. `answer` runs in a worker thread, for a caller whose roles allow `action`.

    With None every role may see it: the page itself shows of each part only what the caller's roles allow. A POST
    has passed the check of its CSRF token; `visit.form` has its fields.
    """

    method: Literal["GET", "POST"]
    path: str
    action: Action | None
    answer: Callable[[Visit], Response]


def get(path: str, action: Action | None, answer: Callable[[Visit], Response]) -> Page:
    """A page that only reads."""
    return Page("GET", path, action, answer)


def post(path: str, action: Action, answer: Callable[[Visit], Response]) -> Page:
    """The target of a form; its answer is a redirect to the page that shows the result."""
    return Page("POST", path, action, answer)
