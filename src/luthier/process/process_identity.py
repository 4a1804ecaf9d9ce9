"""The name of a process for others: which host, which boot of it, which pid, since when; and whether it has ended.

That it has ended is only ever said of a process of this machine and boot; of any other nobody here can know.
"""

import os
import secrets
import socket
import sys
from functools import cache
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")
_SELF = Path("/proc/self")
_INITIAL_PIDS = 0xEFFFFFFC
"""The inode of the namespace that Linux boots with (include/linux/proc_ns.h: PROC_PID_INIT_INO)."""


def new_name() -> str:
    """A name for one part of this process: `host/machine/pid@start/random`; each call gives another one."""
    return f"{_machine()}/{_process(os.getpid())}/{secrets.token_hex(6)}"


def has_ended(name: str) -> bool:
    """Whether the process of that name has surely ended: False also if that cannot be known from here.

    An earlier part of this very process counts as ended: a process has one of each.
    """
    machine, _, rest = name.rpartition("/")[0].rpartition("/")
    if machine != _machine():
        return False
    pid = rest.partition("@")[0]
    if not pid.isdigit():
        return False
    return int(pid) == os.getpid() or _process(int(pid)) != rest


@cache
def pid_namespace() -> str:
    """`/` and the number of the namespace of this process's pids; empty in the machine's own, and not on Linux."""
    if sys.platform != "linux" or (inode := _PID_NAMESPACE.stat().st_ino) == _INITIAL_PIDS:
        return ""
    return f"/{inode}"


def words(name: str) -> str:
    """The process in words, for messages to the operator."""
    parts = name.split("/")
    return f"process {parts[-2].partition('@')[0]} on host {parts[0]}" if len(parts) >= 4 else "another process"


@cache
def _machine() -> str:
    """The host, its boot and the namespace of its pids: within them a pid and its start name one process."""
    if sys.platform != "linux":
        return f"{socket.gethostname()}/-"
    pids = str(_PID_NAMESPACE.stat().st_ino)
    if not _sees_own_pids():
        pids = secrets.token_hex(6)  # nobody can look our pid up, and we nobody's: the lease's time decides
    return f"{socket.gethostname()}/{_BOOT_ID.read_text().strip()[:8]}.{pids}"


def _sees_own_pids() -> bool:
    """Whether /proc has the pids of this process's namespace: not after `unshare --pid` without a /proc of its own."""
    return str(_SELF.readlink()) == str(os.getpid())


def _process(pid: int) -> str:
    """`pid@ticks from boot to the process's start`; without the ticks if there is no such process, or only a zombie.

    The kernel's own number: a time that is computed of the wall clock would change with each step of it.
    """
    if sys.platform != "linux":
        return f"{pid}@{'running' if psutil.pid_exists(pid) else ''}"
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return f"{pid}@"
    state, start_ticks = fields[0], fields[19]  # proc(5): fields 3 and 22; the command in brackets is field 2
    return f"{pid}@{'' if state in 'ZX' else start_ticks}"
