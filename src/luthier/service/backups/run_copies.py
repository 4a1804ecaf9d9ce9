"""Copies of the folders of open work, runs and batches, while a trainer or the runner of batches writes to them.

A file that is replaced as a whole, or never changes, becomes a hard link; one that grows is copied as it is now. The
order makes a copy that a crash could have left, from which the trainer continues (docs/run-directory.md).
"""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from luthier.run_directory.run_directory import RunDirectory
from luthier.service.batches.batch_folder import BatchFolder

_ATTEMPTS = 5
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS})
"""Why a hard link cannot be made where a copy can."""


def link(source: Path, target: Path) -> None:
    """Gives a file a second name, or copies it where the file system cannot. Raises FileNotFoundError, FileExistsError
    and other OSErrors.
    """
    try:
        os.link(source.resolve() if source.is_symlink() else source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)


def stage_run(source: Path, target: Path) -> bool:
    """Stages a run directory; False if there is none, or none of one moment could be had: then nothing is staged.

    Of a run without its spec, which has not begun or has failed, only the trainer's log.
    """
    run = RunDirectory(source)
    for _ in range(_ATTEMPTS):
        shutil.rmtree(target, ignore_errors=True)
        try:
            before = _state(run)
            if before is None:
                return False
            _copy(run, RunDirectory(target))
            if _state(run) == before:
                return True
        except FileNotFoundError:
            continue  # a checkpoint was dropped, or the whole run removed
    shutil.rmtree(target, ignore_errors=True)
    return False


def stage_batch(source: BatchFolder, target: BatchFolder) -> bool:
    """Stages the folder of an open batch; False, and nothing staged, if its input is not there (yet, or any more).

    The journal may end with a torn line, as after a kill.
    """
    if not source.input.exists():
        return False
    target.path.mkdir(parents=True)
    try:
        link(source.input, target.input)
        if source.journal.exists():
            shutil.copyfile(source.journal, target.journal)
    except FileNotFoundError:
        target.remove()
        return False
    return True


def _copy(run: RunDirectory, copy: RunDirectory) -> None:
    """Copies a run: the resume point first and the event log last, so that the log is never behind it.

    Neither the lock nor a request to pause: both are for the process that works there now.
    """
    copy.path.mkdir(parents=True)
    if not run.spec.exists():
        shutil.copyfile(run.log, copy.log)
        return
    for folder in (run.resume, run.tokens, run.parent, run.checkpoints):
        for path in _files(folder):
            to = copy.path / path.relative_to(run.path)
            to.parent.mkdir(parents=True, exist_ok=True)
            link(path, to)
    for path in (run.spec, run.training, run.validation, run.under_way):
        if path.exists():
            link(path, copy.path / path.name)
    for path in (run.log, run.example_losses, run.results, run.events):
        if path.exists():
            shutil.copyfile(path, copy.path / path.name)


def _state(run: RunDirectory) -> tuple[object, ...] | None:
    """What stays the same while a copy is of one moment: the resume point, and which files the checkpoints have. None
    without a run directory.
    """
    if not run.spec.exists() and not run.log.exists():
        return None
    resume = [(path.name, path.stat().st_ino, path.stat().st_mtime_ns) for path in _files(run.resume)]
    return (run.spec.exists(), resume, [str(path) for path in _files(run.checkpoints)])


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder, in order, but for temporary ones; none if there is no folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path
