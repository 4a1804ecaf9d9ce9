"""When an engine process that nobody calls is ended, and what it holds of the machine until then."""

from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class RestPolicy:
    """When a process is ended although models of it are wanted: the next call of one starts it anew.

    After `idle_s` without a call, and while all processes together hold more than `memory_bytes`, the least recently
    used first. None for never.
    """

    idle_s: float | None = None
    memory_bytes: int | None = None

    @property
    def is_never(self) -> bool:
        return self.idle_s is None and self.memory_bytes is None


NEVER = RestPolicy()


def memory_bytes(pid: int) -> int:
    """The resident memory of a process and of those that it started, in bytes; 0 for one that has ended."""
    try:
        process = psutil.Process(pid)
        return sum(map(_resident_bytes, [process, *process.children(recursive=True)]))
    except psutil.NoSuchProcess:
        return 0


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
