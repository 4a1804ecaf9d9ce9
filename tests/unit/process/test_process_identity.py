"""The name of a process: its end is seen by whoever sees its pid, and by nobody else."""

import os
import shutil
import subprocess
import sys

import pytest

from luthier.process import process_identity

NAME = """
import os, sys
from luthier.process import process_identity
print(process_identity.new_name(), process_identity.pid_namespace() or "-", flush=True)
sys.stdin.read()
"""


def started(*before: str) -> "tuple[subprocess.Popen[str], str, str]":
    """A process, its name, and what it says of its pids' namespace."""
    process = subprocess.Popen(
        [*before, sys.executable, "-c", NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    name, namespace = process.stdout.readline().split()
    return process, name, namespace


def test_end_of_a_process_beside_us_is_seen_at_once() -> None:
    process, name, _ = started()
    with process:
        assert not process_identity.has_ended(name)
        process.kill()
    assert process_identity.has_ended(name)


@pytest.mark.parametrize("options", [("--mount-proc",), ()])
def test_process_of_another_namespace_is_never_said_to_have_ended(options: tuple[str, ...]) -> None:
    """Without --mount-proc its /proc shows our pids under its numbers."""
    before = ("unshare", "--pid", "--fork", "--kill-child", *options)
    if os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare (util-linux)")
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no pid namespace may be made here")
    process, name, namespace = started(*before)
    with process:
        assert namespace != (process_identity.pid_namespace() or "-")
        assert not process_identity.has_ended(name)
        process.kill()
    assert not process_identity.has_ended(name)
