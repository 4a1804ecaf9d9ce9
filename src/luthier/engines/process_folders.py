"""The folders of engine processes: one each, named after the service's mark, and removed when that process is gone."""

import re
import secrets
import shutil
from pathlib import Path

from luthier.process import owner_mark

_NAME = re.compile(r"([0-9a-f]{1,8})-[0-9a-f]{8}")
"""What has another name is not ours to remove. Versions up to 0.1 had the service's pid for the mark."""


def new_folder(parent: Path) -> Path:
    """A new path for the folder of a process that is about to start; creates the parent alone."""
    return parent / f"{owner_mark.own(parent)}-{secrets.token_hex(4)}"


def remove_leftovers(parent: Path) -> None:
    """Removes the folders of processes whose service is gone: they ended with it. What cannot be removed stays."""
    for leftover in parent.glob("*-*"):
        ours = _NAME.fullmatch(leftover.name)
        if ours is not None and owner_mark.has_ended(parent, ours[1]):
            shutil.rmtree(leftover, ignore_errors=True)
