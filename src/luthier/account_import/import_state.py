"""What is imported already: a small file, written atomically after each step, locked by one command at a time.

It is why an import that was interrupted continues where it stopped.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from luthier.atomic_io import write_durably
from luthier.core.errors import Conflict, InvalidRequest

VERSION = 1


class ImportedFile(BaseModel):
    """The target file of a source file. `has_images`: rows with images, which cannot be trained on.

    `sha256` (hex) and `bytes` are of what was downloaded.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    bytes: int
    sha256: str
    has_images: bool = False


class State(BaseModel):
    """Ids of target files and jobs by ids of the source; `source` is its host, `target` the service's URL."""

    model_config = ConfigDict(extra="forbid")

    version: int = VERSION
    source: str
    target: str
    files: dict[str, ImportedFile] = {}
    jobs: dict[str, str] = {}


@contextmanager
def held(path: Path, source: str, target: str) -> Iterator[State]:
    """The state in a file, locked while the block lasts. Raises Conflict if another command holds the lock.

    Makes the folder and a `.lock` file beside it, which stays. The state is not saved at the end: `save` does that.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"Another import-jobs is using {path}; wait until it has ended."
            raise Conflict("import_is_running", message) from None
        yield read(path, source, target)


def read(path: Path, source: str, target: str) -> State:
    """The saved state, a new one if there is no file. Raises InvalidRequest for one of another import or no state."""
    if not path.exists():
        return State(source=source, target=target)
    try:
        state = State.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise InvalidRequest(
            "state_unreadable",
            f"{path} is not a state file of import-jobs. Give another by --state, or remove it.",
            "state",
        ) from error
    if (state.version, state.source, state.target) != (VERSION, source, target):
        raise InvalidRequest(
            "state_of_another_import",
            f"{path} is of an import from {state.source} to {state.target}. Give another file by --state.",
            "state",
        )
    return state


def save(path: Path, state: State) -> None:
    """Replaces the file atomically. Raises NoSpace and OSError."""
    write_durably(path, state.model_dump_json(indent=2).encode())
