"""The local data folder for administrative commands: read it, or change it with an audit entry."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from luthier.cli.screen import fail
from luthier.core.errors import LuthierError

if TYPE_CHECKING:  # the database is imported where it is used: `luthier --help` should not wait for it
    from luthier.service.context import Context

DEFAULT = "luthier"
"""Name of the default resource, which every installation has."""


@contextmanager
def reading() -> Iterator["Context"]:
    """The data folder's services; their errors end the command with one line and exit code 1."""
    from luthier import data_folder
    from luthier.settings import Settings

    try:
        with data_folder.open_data(Settings()) as context:
            yield context
    except LuthierError as error:
        fail(error.message)


@contextmanager
def changing(action: str, resource: str, id: str) -> Iterator["Context"]:
    """The same for a command that changes something: appends an audit entry after success."""
    from luthier.service.tenants import audit

    with reading() as context:
        yield context
        audit.append(
            context.audit_file,
            audit.make_entry(context.now(), resource, audit.OPERATOR, action, "command", id, 0, ""),
        )
