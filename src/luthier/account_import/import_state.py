"""What is imported already: a small file, written atomically after each step, locked by one command at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from luthier.atomic_io import write_durably
from luthier.core.errors import Conflict, InvalidRequest

VERSION = 1


class ImportedFile(BaseModel):
    """The target file of a source file. `has_images`: rows with images, which cannot be trained on."""

    model_config = ConfigDict(extra="forbid")

    id: str
    bytes: int
    sha256: str
    has_images: bool = False


class State(BaseModel):
    """Target files and jobs by ids of the source."""

    model_config = ConfigDict(extra="forbid")

    version: int = VERSION
    source: str
    target: str
    files: dict[str, ImportedFile] = {}
    jobs: dict[str, str] = {}


@contextmanager
def held(path: Path, source: str, target: str) -> Iterator[State]:
    """The state in a file, locked while the block lasts. Raises Conflict if another command holds the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"Another import-jobs is using {path}; wait until it has ended."
            raise Conflict("move_is_running", message) from None
        yield read(path, source, target)


def read(path: Path, source: str, target: str) -> State:
    """The saved state, or a new one. Raises InvalidRequest if the file is of another import."""
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
            "state_of_another_move",
            f"{path} is of an import from {state.source} to {state.target}. Give another file by --state.",
            "state",
        )
    return state


def save(path: Path, state: State) -> None:
    write_durably(path, state.model_dump_json(indent=2).encode())
