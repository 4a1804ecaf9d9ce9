"""How often the kernel has ended a process of this machine for want of memory: the only proof of such an end."""

import re
from pathlib import Path

_COUNT = re.compile(r"^oom_kill (\d+)$", re.M)


def kills(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Counts them since the machine's start, as far as it lets us see; a number that only ever rises.

    Our control group says it of its own limit (cgroup v2 `memory.events`, v1 `memory.oom_control`), `/proc/vmstat` of
    the whole machine. What cannot be read counts nothing.
    """
    counters = [proc / "vmstat"]
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers == "":
            counters.append(cgroups / group.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            counters.append(cgroups / "memory" / group.lstrip("/") / "memory.oom_control")
    return sum(int(number) for path in counters for number in _COUNT.findall(_read(path)))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
