"""How much memory this machine has for further processes, and how much one has taken."""

from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def available_bytes(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """What the machine has available, or less if a limit of this process's control group, or of one above it, leaves
    less (version 2; containers set them). File pages that nobody used lately count as available.
    """
    return min(int(psutil.virtual_memory().available), *_left_in_groups(cgroups, membership), 2**62)


def resident_bytes(pid: int) -> int:
    """What a process has in memory; 0 if it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _left_in_groups(root: Path, membership: Path) -> list[int]:
    """Bytes below each limit; empty where there is none, or none that can be read."""
    own = next((line[3:] for line in _text(membership).splitlines() if line.startswith("0::")), None)
    if own is None:
        return []
    folder, left = root / own.strip("/"), []
    for group in (folder, *folder.parents):
        if not group.is_relative_to(root):
            break
        limit, used = _text(group / "memory.max").strip(), _text(group / "memory.current").strip()
        if limit.isdecimal() and used.isdecimal():
            fields = dict(line.split() for line in _text(group / "memory.stat").splitlines())
            left.append(max(0, int(limit) - int(used) + int(fields.get("inactive_file", 0))))
    return left


def _text(path: Path) -> str:
    """The file's text; empty if it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
