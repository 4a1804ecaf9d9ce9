"""Permissions of the data folder: files 0600, folders 0700, whatever they were before."""

import stat
from pathlib import Path

UMASK = 0o077
"""The umask of the service and of its trainers and engines."""
_OTHERS = 0o077
_FILES = ("luthier.db*", "api-key", "webhook-key", "audit.jsonl*", "rates.json")
_FOLDERS = ("blobs", "runs", "served", "engines", "exports", "moving", "batches", ".backup", "restored-settings")
PATTERNS = (*_FILES, *_FOLDERS)
"""What Luthier stores in the folder. Not `models`: base models are public, and installations may share them."""


def create(folder: Path) -> None:
    """Creates a folder with mode 0700, and the data folder around it if missing; one that exists keeps its mode."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def restrict(folder: Path) -> list[str]:
    """Removes other users' permissions on Luthier's files in the folder; returns a sentence on each that stays open.

    A folder that others cannot enter protects all below it, so only the first level is changed. The data folder itself
    may have other contents: it is reported in a sentence too, not changed.
    """
    paths = [path for pattern in PATTERNS for path in sorted(folder.glob(pattern))]
    warnings = [f"{path} is open to other users: {reason}." for path in paths if (reason := _restrict(path))]
    if (mode := stat.S_IMODE(folder.stat().st_mode)) & _OTHERS:
        warnings.append(
            f"The data folder {folder} has mode {mode:04o}: other users can list it, or more. Luthier's files in "
            f"it are closed to them; close the folder too: chmod 700 {folder}"
        )
    return warnings


def _restrict(path: Path) -> str | None:
    """Closes a path to other users; returns why it stays open to them, None if it does not."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode & _OTHERS:
            return None
        if path.is_symlink():  # its target is somebody's own set-up
            return f"it links to {path.resolve()}, which has mode {mode:04o}"
        path.chmod(mode & ~_OTHERS)
    except FileNotFoundError:
        return None  # a temporary file of the database
    except OSError as error:
        return f"it could not be closed to them ({error.strerror})"
    return None
