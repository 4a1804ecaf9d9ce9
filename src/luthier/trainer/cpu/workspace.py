"""Memory for activations and logits that is allocated once and used again in each step."""

import ctypes
import math

import torch
from torch import Tensor


def trim() -> None:
    """Gives what is free in the process's heap back to the kernel: glibc keeps it otherwise (malloc_trim(3)).

    Where tcmalloc was loaded before, its own call does the same (gperftools, malloc_extension_c.h); elsewhere nothing
    is done.
    """
    process = ctypes.CDLL(None)
    if release := getattr(process, "MallocExtension_ReleaseFreeMemory", None):
        release()
    elif trim := getattr(process, "malloc_trim", None):
        trim(0)


class Workspace:
    """Named blocks of uninitialised memory, kept for the next step and grown when more is asked for.

    What training needs is the same from step to step; asking the allocator each time costs page faults, and leaves the
    heap in pieces when lengths differ. A block is made for `rows` rows at once, so that it need not grow while steps
    do: the kernel gives memory for what is written to, not for what is asked for.
    """

    def __init__(self, rows: int = 1) -> None:
        self._rows = rows
        self._blocks: dict[tuple[str, int], Tensor] = {}

    def clear(self) -> None:
        """Forgets all blocks; each is freed once no tensor uses it any more."""
        self._blocks.clear()

    def take(self, name: str, number: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor of `shape`, rows first, in the block of this name and number; until the same one is taken again.

        Its values are whatever the memory holds: those of before, if shape and dtype are as before.
        """
        size = math.prod(shape)
        block = self._blocks.get((name, number))
        if block is None or len(block) < size or block.dtype != dtype:
            capacity = max(shape[0], self._rows) * math.prod(shape[1:])
            self._blocks.pop((name, number), None)
            block = self._blocks[name, number] = torch.empty(capacity, dtype=dtype)
        return block[:size].view(shape)
