"""`python -m luthier.trainer RUN_DIR`: one attempt at a run. The verdict is the last event, not the exit code.

An executor starts it and redirects its output to the run's trainer.log; docs/run-directory.md lists the exit codes.
"""

import contextlib
import errno
import gc
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pydantic import ValidationError

from luthier.atomic_io import disk_full_as_no_space
from luthier.core.errors import Conflict, LuthierError, NoSpace
from luthier.process import logs
from luthier.run_directory.run_directory import (
    EXIT_DAMAGED,
    EXIT_DISK_FULL,
    EXIT_LOCKED,
    EXIT_RANK_LOST,
    EXIT_USAGE,
    RunDirectory,
)
from luthier.run_directory.run_events import Failed, Succeeded
from luthier.run_directory.train_spec import TrainSpec
from luthier.trainer.ranks import rank_processes
from luthier.trainer.ranks.rank_processes import EXIT_FAILED, EXIT_NO_MEMORY, Place, RankLost, RankProcesses
from luthier.trainer.run.event_log import EventLog
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
    """Starts or resumes the run in the given directory and returns the exit code of the process.

    Holds the run's lock meanwhile, repairs what a crash left, and appends the verdict to events.jsonl; a run that has a
    verdict is left as it is. 0: there is a verdict, or the run was told to stop and its state is saved. EXIT_LOCKED:
    the run is not, or no longer, ours. EXIT_DISK_FULL, EXIT_DAMAGED: no verdict could be written. EXIT_RANK_LOST: one
    of several ranks is gone. With RANK above 0 in the environment this is another rank of a run, and writes nothing.
    """
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        sys.stderr.write("usage: python -m luthier.trainer RUN_DIR\n")
        return EXIT_USAGE
    run = RunDirectory(Path(arguments[0]).resolve())
    try:
        place = rank_processes.place_given(os.environ)
        if place is not None:
            rank_processes.require_size(place, run)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    try:
        return _follow(run, place) if place is not None and place.rank > 0 else _lead(run, place)
    except RankLost as error:
        _log(f"{error}\n")
        return EXIT_RANK_LOST


def _lead(run: RunDirectory, place: Place | None) -> int:
    """What `main` does as rank 0, which may be the only one. Raises RankLost."""
    try:
        with disk_full_as_no_space(run.lock), Lock(run.lock) as lock:
            run.repair()
            event_log = EventLog(run, lock.check)
            if event_log.verdict is None:
                verdict = _attempt(run, event_log, place)
                if verdict is not None:
                    event_log.write(verdict)
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


def _follow(run: RunDirectory, place: Place) -> int:
    """What `main` does as another rank than 0: trains with the others, and tells only how it exits. Raises RankLost."""
    rank_processes.end_with_parent(os.environ)
    verdict = _attempt(run, EventLog(run, silent=True), place)
    if not isinstance(verdict, Failed):
        return 0
    _log(f"rank {place.rank}: {verdict.code}\n")
    return EXIT_NO_MEMORY if verdict.code == "out_of_memory" else EXIT_FAILED


def _attempt(run: RunDirectory, event_log: EventLog, place: Place | None) -> Succeeded | Failed | None:
    """The verdict of this attempt, not yet written; None where it was asked to stop before the end, its state saved.

    Changes the process's environment and its SIGTERM handler. Any error becomes a Failed; only RunTaken and RankLost
    pass through. An unexpected error is logged by type and frames, and is then internal_error or out_of_memory.
    """
    leads = place is None or place.rank == 0
    sigterm = _Sigterm(run, may_leave=leads)
    os.environ.update(_ENVIRONMENT)
    try:
        spec = run.read_spec()
        return _train(run, spec, event_log, place, lambda: sigterm() or (leads and run.pause.exists()))
    except (RunTaken, RankLost):
        raise
    except NoSpace as error:
        if leads:
            _make_room(run)
        return _failed(error.code, error.message)
    except LuthierError as error:
        return _failed(error.code, error.message, error.param)
    except ValidationError:
        return _failed("invalid_spec", "spec.json is not a TrainSpec that this trainer understands.")
    except Exception as error:  # noqa: BLE001  (one of the three places of CONTRIBUTING.md)
        # Its kind and frames go to trainer.log; the message could quote the user's rows and goes nowhere.
        _log(f"{logs.describe_error(error)}\n")
        if _is_out_of_memory(error):
            return _out_of_memory()
        return _failed("internal_error", f"The trainer met an unexpected {type(error).__name__}; see trainer.log.")


def _train(
    run: RunDirectory, spec: TrainSpec, event_log: EventLog, place: Place | None, stop: Callable[[], bool]
) -> Succeeded | Failed | None:
    """Trains as one rank; without a `place` as rank 0, which starts the others. Raises RankLost if one is gone."""
    processes = RankProcesses(run.path, spec.ranks) if place is None and spec.ranks > 1 else None
    try:
        # Imported here: the variables above are read on import, and torch takes seconds that a held lock need not wait
        # for. Inside the try: where memory is short, loading torch is the first to need more than there is.
        # No garbage collection meanwhile: it walks three thousand modules again and again and finds nothing to free.
        gc.disable()
        from luthier.trainer import loop
        from luthier.trainer.ranks import rank_group

        gc.freeze()
        gc.enable()
        given = place or Place(size=spec.ranks, local_size=spec.ranks)
        ranks = rank_group.join(given, processes.listener if processes else None)
        with disk_full_as_no_space(run.events):
            verdict = loop.train(run, spec, event_log, stop, ranks)
        ranks.part()
        return verdict
    except RuntimeError as error:
        if spec.ranks == 1 or not rank_group.is_loss(error):
            raise
        return _verdict_of_loss(processes, error)
    finally:
        if processes is not None:
            processes.close()


def _verdict_of_loss(processes: RankProcesses | None, error: RuntimeError) -> Failed:
    """The verdict if a rank on this machine told why it ended. Raises RankLost otherwise: the next attempt resumes."""
    match processes.loss() if processes else None:
        case rank_processes.EXIT_NO_MEMORY:
            return _out_of_memory()
        case rank_processes.EXIT_FAILED:
            return _failed("internal_error", "A rank of the trainer met an unexpected error; see trainer.log.")
        case _:
            raise RankLost("another rank of this run is gone or does not answer") from error


def _log(text: str) -> None:
    """Writes to stderr (trainer.log) past Python's buffers, and ignores a full disk.

    What stayed in a buffer would fail once more when Python flushes it at exit, and change the exit code.
    """
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), text.encode())


def _make_room(run: RunDirectory) -> None:
    """Deletes half-written checkpoint folders after the disk ran full, so that the verdict's line fits."""
    for leftover in run.checkpoints.glob(".*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out: by its type, its errno, or the words of its message."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    words = str(error).lower()
    return any(word in words for word in _NO_MEMORY) or (isinstance(error, ImportError) and _NO_MEMORY_TO_LOAD in words)


class _Sigterm:
    """Calling it tells whether SIGTERM has come: the loop asks before its first step and after each.

    Before the first such call there is nothing to save, and loading may take long: SIGTERM then ends the process at
    once, with exit code 0, and leaves no mark of an interrupted attempt. Unless it may not leave by itself: a rank
    other than 0 waits until all do.
    """

    def __init__(self, run: RunDirectory, *, may_leave: bool) -> None:
        """Replaces the SIGTERM handler of the process."""
        self._run = run
        self._received = False
        self._asked = not may_leave
        signal.signal(signal.SIGTERM, self._note)

    def __call__(self) -> bool:
        """Whether SIGTERM has come; from the first call on, the signal is only recorded."""
        self._asked = True
        return self._received

    def _note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: records the signal, or ends the process where nobody has asked yet."""
        self._received = True
        if not self._asked:
            self._run.under_way.unlink(missing_ok=True)
            os._exit(0)


def _out_of_memory() -> Failed:
    return _failed(
        "out_of_memory", "The machine has too little memory for this job. Lower batch_size or shorten long examples."
    )


def _failed(code: str, message: str, param: str | None = None) -> Failed:
    """The verdict of a failed run, as of now; `message` and `param` are for the job's owner."""
    return Failed(at=time.time(), code=code, message=message, param=param)


def _leave(status: int) -> NoReturn:
    """Ends the process without taking the interpreter down: everything is on the disk, and that takes a second."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    logs.configure(logging.WARNING)
    _leave(main(sys.argv[1:]))
