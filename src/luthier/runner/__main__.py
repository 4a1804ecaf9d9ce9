"""`python -m luthier.runner RUN_KEY ATTEMPT`: one attempt of a run on this node; docs/ray.md has its environment."""

import fcntl
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

from luthier import blobs
from luthier.process import logs
from luthier.run_directory.run_directory import EXIT_LOCKED, EXIT_USAGE
from luthier.run_directory.shipped_run import ShippedRun
from luthier.runner.node_run import NodeRun
from luthier.runner.run_store import ObjectRunStore

BLOBS_VARIABLE = "LUTHIER_BLOBS_URL"
MODELS_VARIABLE = "LUTHIER_MODELS_DIR"
FOLDER_VARIABLE = "LUTHIER_RUNNER_DIR"
"""The folder on the node's disk for run directories; by default one in the system's folder for temporary files."""
LOCK_TRIES = 20


def main(arguments: list[str], python: Path | None = None) -> int:
    """Runs an attempt and returns the exit code of the process: the trainer's, or one of node_run and run_directory.

    `python` is the trainer's, None for our own. Replaces the SIGTERM handler of the process.
    """
    url = os.environ.get(BLOBS_VARIABLE)
    if len(arguments) != 2 or not arguments[1].isdigit() or not url:
        sys.stderr.write(f"usage: {BLOBS_VARIABLE}=URL python -m luthier.runner RUN_KEY ATTEMPT\n")
        return EXIT_USAGE
    key, attempt = arguments[0], int(arguments[1])
    try:
        store = ObjectRunStore(blobs.by_url(url))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    parent = Path(os.environ.get(FOLDER_VARIABLE) or Path(tempfile.gettempdir()) / f"luthier-runs-{os.getuid()}")
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if parent.stat().st_uid != os.getuid():
        sys.stderr.write(f"{parent} belongs to another user: name a folder by {FOLDER_VARIABLE}\n")
        return EXIT_USAGE
    _remove_abandoned(parent)
    name = f"{Path(key).name}-{attempt}"
    lock = _lock(parent / f"{name}.lock")
    if lock is None:
        return EXIT_LOCKED
    with lock:
        models = os.environ.get(MODELS_VARIABLE)
        node_run = NodeRun(ShippedRun(store, key), attempt, parent / name, Path(models) if models else None, python)
        signal.signal(signal.SIGTERM, lambda number, frame: node_run.terminate())
        code = node_run.run()
        (parent / f"{name}.lock").unlink(missing_ok=True)
    return code


def _lock(path: Path) -> TextIO | None:
    """The attempt's lock on this node, taken; None if another process holds it for longer than a look at it takes."""
    for _ in range(LOCK_TRIES):
        stream = path.open("w")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(stream.fileno())):
                return stream
        except (BlockingIOError, FileNotFoundError):
            time.sleep(0.05)  # a runner that starts may be looking for abandoned ones
        stream.close()
    return None


def _remove_abandoned(parent: Path) -> None:
    """Removes the folders of runners that were killed: they hold users' rows. A lock tells which runners live."""
    for lock in parent.glob("*.lock"):
        with lock.open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)


if __name__ == "__main__":
    logs.configure(logging.INFO)
    code = main(sys.argv[1:])
    logging.shutdown()
    os._exit(code)  # a thread may still wait for a store that does not answer
