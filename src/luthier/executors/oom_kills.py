"""The kernel's count of OOM kills on this machine: the only proof of one.

`LocalExecutor` compares counts to tell whether a trainer ended by SIGKILL ran out of memory.
"""

import re
from pathlib import Path

_COUNT = re.compile(r"^oom_kill (\d+)$", re.M)


def count(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """OOM kills since boot, as far as they are visible; a number that never decreases.

    Those at the limit of our control group (cgroup v2 `memory.events`, v1 `memory.oom_control`), and those of the
    whole machine (`/proc/vmstat`). What cannot be read counts zero.
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
    """The file's text; empty if it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
