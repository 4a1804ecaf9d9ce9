"""The folders of engine processes: one each, named after the service's pid, and removed when that process is gone."""

import os
import re
import secrets
import shutil
from pathlib import Path

import psutil

_NAME = re.compile(r"(\d+)-[0-9a-f]{8}")
"""What has another name is not ours to remove."""


def new_folder(parent: Path) -> Path:
    """A new path for the folder of a process that is about to start; creates nothing."""
    return parent / f"{os.getpid()}-{secrets.token_hex(4)}"


def remove_leftovers(parent: Path) -> None:
    """Removes the folders of processes whose service is gone: they ended with it. What cannot be removed stays."""
    for leftover in parent.glob("*-*"):
        ours = _NAME.fullmatch(leftover.name)
        if ours is not None and not psutil.pid_exists(int(ours[1])):
            shutil.rmtree(leftover, ignore_errors=True)
