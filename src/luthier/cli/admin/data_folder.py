"""How the commands in `admin`, and `models import`, open the local data folder: to read it, or to change it with an
audit entry. A service may run on the folder meanwhile.
"""

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
    """The services' context on the data folder that the settings name, open for the block.

    Their errors, in the block as well (no data folder, not found, conflict, quota), end the command with one line and
    exit code 1. What the block writes is not audited: see `changing`.
    """
    from luthier import data_folder
    from luthier.settings import Settings

    try:
        with data_folder.open_data(Settings()) as context:
            yield context
    except LuthierError as error:
        fail(error.message, code=error.code, param=error.param)


@contextmanager
def changing(action: str, resource: str, id: str) -> Iterator["Context"]:
    """As `reading`, for a command that changes something: appends an entry to audit.jsonl if the block succeeds, by the
    operator, with `action`, the account name `resource` and `id`, the thing changed. A block that raises leaves none.
    """
    from luthier.service.tenants import audit

    with reading() as context:
        yield context
        audit.append(
            context.audit_file,
            audit.make_entry(context.now(), resource, audit.OPERATOR, action, "command", id, 0, ""),
        )
