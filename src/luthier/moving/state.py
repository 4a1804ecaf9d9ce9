"""What was brought already: a small file, written whole after each step, that one command at a time may hold."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from luthier.core.errors import Conflict, InvalidRequest
from luthier.durable import write_durably

VERSION = 1


class BroughtFile(BaseModel):
    """A file of the source and what it is here. `has_images`: rows that cannot be trained on."""

    model_config = ConfigDict(extra="forbid")

    id: str
    bytes: int
    sha256: str
    has_images: bool = False


class State(BaseModel):
    """Ids of the source to what they became here."""

    model_config = ConfigDict(extra="forbid")

    version: int = VERSION
    source: str
    target: str
    files: dict[str, BroughtFile] = {}
    jobs: dict[str, str] = {}


@contextmanager
def held(path: Path, source: str, target: str) -> Iterator[State]:
    """The state in a file, ours alone while the block lasts. Raises Conflict where another command holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"Another import-jobs is at work with {path}; wait for its end."
            raise Conflict("move_is_running", message) from None
        yield read(path, source, target)


def read(path: Path, source: str, target: str) -> State:
    """The state as it was left, or a new one. Raises InvalidRequest where the file is of another move."""
    if not path.exists():
        return State(source=source, target=target)
    try:
        state = State.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise InvalidRequest(
            "state_unreadable", f"{path} is no state of import-jobs. Give another by --state, or remove it.", "state"
        ) from error
    if (state.version, state.source, state.target) != (VERSION, source, target):
        raise InvalidRequest(
            "state_of_another_move",
            f"{path} is of a move from {state.source} to {state.target}. Give another file by --state.",
            "state",
        )
    return state


def save(path: Path, state: State) -> None:
    write_durably(path, state.model_dump_json(indent=2).encode())
