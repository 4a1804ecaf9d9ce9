"""`python -m luthier.trainer RUN_DIR`: one attempt at a run. The verdict is the last event, not the exit code."""

import fcntl
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from luthier.core.errors import Conflict, LuthierError
from luthier.run_directory import Failed, RunDirectory, Succeeded
from luthier.trainer.journal import Journal

EXIT_USAGE = 64
EXIT_DAMAGED = 65
EXIT_LOCKED = 75
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TQDM_DISABLE": "1",
    # How long OpenMP threads spin for one another. By default milliseconds: fastest alone, fifty times slower beside a
    # busy engine on the same cores. Not at all (PASSIVE) makes small steps 2.5 times slower. This is between.
    "GOMP_SPINCOUNT": "20000",
}


def main(arguments: list[str]) -> int:
    """Runs or goes on with the run in the given directory; 75 if another trainer is at it."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        sys.stderr.write("usage: python -m luthier.trainer RUN_DIR\n")
        return EXIT_USAGE
    run = RunDirectory(Path(arguments[0]).resolve())
    with _lock(run.lock) as mine:
        if not mine:
            sys.stderr.write("another trainer has this run\n")
            return EXIT_LOCKED
        run.mend()
        try:
            journal = Journal(run)
        except Conflict as error:  # a verdict after the damaged line would be read by nobody
            sys.stderr.write(f"{error.message}\n")
            return EXIT_DAMAGED
        if journal.verdict is None:
            verdict = _attempt(run, journal)
            if verdict is not None:
                journal.write(verdict)
    return 0


def _attempt(run: RunDirectory, journal: Journal) -> Succeeded | Failed | None:
    """The verdict of this attempt, or None where it was asked to stop before the end."""
    stopping = _catch_sigterm()
    os.environ.update(_ENVIRONMENT)
    # Imported here: the variables above are read on import, and torch takes seconds that a held lock need not wait for.
    from luthier.trainer import loop

    try:
        return loop.train(run, run.read_spec(), journal, lambda: bool(stopping))
    except LuthierError as error:
        return _failed(error.code, error.message, error.param)
    except ValidationError:
        return _failed("invalid_spec", "spec.json is not a TrainSpec that this trainer understands.")
    except MemoryError:
        return _out_of_memory()
    except Exception as error:  # noqa: BLE001  (one of the three places, design.md rule 13)
        # The traceback goes to trainer.log; the message could quote the user's rows and goes nowhere else.
        traceback.print_exc()
        if "not enough memory" in str(error) or "out of memory" in str(error):
            return _out_of_memory()
        return _failed("internal_error", f"The trainer met an unexpected {type(error).__name__}; see trainer.log.")


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Whether this process holds the run; the lock goes with the process, however it ends."""
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _catch_sigterm() -> list[int]:
    """A list that is filled when SIGTERM comes: the loop looks at it after each step."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    signal.signal(signal.SIGTERM, note)
    return received


def _out_of_memory() -> Failed:
    return _failed(
        "out_of_memory", "The machine has too little memory for this job. Lower batch_size or shorten long examples."
    )


def _failed(code: str, message: str, param: str | None = None) -> Failed:
    return Failed(at=time.time(), code=code, message=message, param=param)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
