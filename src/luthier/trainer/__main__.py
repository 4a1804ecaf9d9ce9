"""`python -m luthier.trainer RUN_DIR`: one attempt at a run. The verdict is the last event, not the exit code."""

import contextlib
import errno
import logging
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from luthier.atomic_io import room_for
from luthier.core.errors import Conflict, LuthierError, NoSpace
from luthier.process import logs
from luthier.run_directory.run_directory import EXIT_DAMAGED, EXIT_DISK_FULL, EXIT_LOCKED, EXIT_USAGE, RunDirectory
from luthier.run_directory.run_events import Failed, Succeeded
from luthier.trainer.run.event_log import Journal
from luthier.trainer.run.run_lock import Lock, RunTaken

_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TQDM_DISABLE": "1",
    # How long OpenMP threads spin for one another. By default milliseconds: fastest alone, fifty times slower beside a
    # busy engine on the same cores. Not at all (PASSIVE) makes small steps 2.5 times slower. This is between.
    "GOMP_SPINCOUNT": "20000",
}


_NO_MEMORY = ("can't allocate memory", "cannot allocate memory", "out of memory", "not enough memory", "bad_alloc")
"""How torch, the loader of libraries and the kernel put it, in lower case."""
_NO_MEMORY_TO_LOAD = "failed to map segment"


def main(arguments: list[str]) -> int:
    """Runs or goes on with the run in the given directory; 75 if it is not, or no longer, ours."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        sys.stderr.write("usage: python -m luthier.trainer RUN_DIR\n")
        return EXIT_USAGE
    run = RunDirectory(Path(arguments[0]).resolve())
    try:
        with room_for(run.lock), Lock(run.lock) as lock:
            run.repair()
            journal = Journal(run, lock.check)
            if journal.verdict is None:
                verdict = _attempt(run, journal)
                if verdict is not None:
                    journal.write(verdict)
    except RunTaken as error:
        _log(f"{error}\n")
        return EXIT_LOCKED
    except NoSpace as error:
        _log(f"{error}\n")
        return EXIT_DISK_FULL
    except Conflict as error:  # a verdict after the damaged line would be read by nobody
        _log(f"{error.message}\n")
        return EXIT_DAMAGED
    return 0


def _attempt(run: RunDirectory, journal: Journal) -> Succeeded | Failed | None:
    """The verdict of this attempt, or None where it was asked to stop before the end."""
    sigterm = _Sigterm()
    os.environ.update(_ENVIRONMENT)
    try:
        # Imported here: the variables above are read on import, and torch takes seconds that a held lock need not wait
        # for. Inside the try: where memory is short, loading torch is the first to need more than there is.
        from luthier.trainer import loop

        with room_for(run.events):
            return loop.train(run, run.read_spec(), journal, lambda: sigterm() or run.pause.exists())
    except RunTaken:
        raise
    except NoSpace as error:
        _make_room(run)
        return _failed(error.code, error.message)
    except LuthierError as error:
        return _failed(error.code, error.message, error.param)
    except ValidationError:
        return _failed("invalid_spec", "spec.json is not a TrainSpec that this trainer understands.")
    except Exception as error:  # noqa: BLE001  (one of the three places, design.md rule 13)
        # Its kind and frames go to trainer.log; the message could quote the user's rows and goes nowhere.
        _log(f"{logs.describe_error(error)}\n")
        if _is_out_of_memory(error):
            return _out_of_memory()
        return _failed("internal_error", f"The trainer met an unexpected {type(error).__name__}; see trainer.log.")


def _log(text: str) -> None:
    """Writes to trainer.log past Python's buffers: on a full disk they would fail once more, at exit, with a status."""
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), text.encode())


def _make_room(run: RunDirectory) -> None:
    """Removes the half of a checkpoint that did not fit: the verdict needs a line's room."""
    for leftover in run.checkpoints.glob(".*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    words = str(error).lower()
    return any(word in words for word in _NO_MEMORY) or (isinstance(error, ImportError) and _NO_MEMORY_TO_LOAD in words)


class _Sigterm:
    """Whether SIGTERM has come: the loop asks before its first step and after each.

    Before it asks for the first time there is nothing to save, and loading may take long: the process leaves at once.
    """

    def __init__(self) -> None:
        self._received = self._asked = False
        signal.signal(signal.SIGTERM, self._note)

    def __call__(self) -> bool:
        self._asked = True
        return self._received

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = True
        if not self._asked:
            os._exit(0)


def _out_of_memory() -> Failed:
    return _failed(
        "out_of_memory", "The machine has too little memory for this job. Lower batch_size or shorten long examples."
    )


def _failed(code: str, message: str, param: str | None = None) -> Failed:
    return Failed(at=time.time(), code=code, message=message, param=param)


if __name__ == "__main__":
    logs.configure(logging.WARNING)
    sys.exit(main(sys.argv[1:]))
