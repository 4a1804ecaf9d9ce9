"""Returns memory to the system after large requests: glibc would keep it for the next one.

`intake/body_limits.py` asks for it after an upload or a large JSON body.
"""

import asyncio
import ctypes
from contextlib import suppress
from dataclasses import dataclass

AFTER_S = 1.0
"""Delay, so that many large requests are followed by one trim, which takes some milliseconds."""
_C = ctypes.CDLL(None)


@dataclass(slots=True)
class Heap:
    """The C heap of this process, and whether a trim of it is scheduled. Belongs to one event loop."""

    _is_due: bool = False

    def trim_soon(self) -> None:
        """Schedules one trim in AFTER_S seconds on the running event loop, unless one is scheduled already."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(AFTER_S, self._trim)

    def _trim(self) -> None:
        """Trims in a thread of the loop's own pool: it takes milliseconds."""
        self._is_due = False
        asyncio.get_running_loop().run_in_executor(None, _malloc_trim)


def _malloc_trim() -> None:
    """Gives free pages of the heap back to the system; does nothing with another C library than glibc."""
    with suppress(AttributeError):  # another C library than glibc
        _C.malloc_trim(0)  # without the interpreter's lock
