"""The data folder of this machine for commands of its operator: to read, or to change with an audit line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from luthier.cli.screen import fail
from luthier.core.errors import LuthierError
from luthier.service import audit

if TYPE_CHECKING:  # the database is imported where it is used: `luthier --help` should not wait for it
    from luthier.service.context import Context

DEFAULT = "luthier"
"""The resource that every installation has."""


@contextmanager
def reading() -> Iterator["Context"]:
    """What the use case says against the command becomes one readable line and status 1."""
    from luthier import app
    from luthier.settings import Settings

    try:
        with app.open_data(Settings()) as context:
            yield context
    except LuthierError as error:
        fail(error.message)


@contextmanager
def changing(action: str, resource: str, id: str) -> Iterator["Context"]:
    """The same for a command that changes something: leaves an audit line once that has been done."""
    with reading() as context:
        yield context
        audit.append(
            context.audit_file,
            audit.entry(context.now(), resource, audit.OPERATOR, action, "command", id, 0, ""),
        )
