"""Memory that is taken once and used again in each step."""

import math

import torch
from torch import Tensor


class Workspace:
    """Named blocks of uninitialised memory, grown when a larger one is asked for and never given back.

    What training needs is the same from step to step; asking the allocator each time costs page faults, and leaves
    the heap in pieces when lengths differ.
    """

    def __init__(self) -> None:
        self._blocks: dict[tuple[str, int], Tensor] = {}

    def take(self, name: str, number: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor of `shape` in the block of this name and number; it lives until the same one is taken again."""
        size = math.prod(shape)
        block = self._blocks.get((name, number))
        if block is None or len(block) < size or block.dtype != dtype:
            block = self._blocks[name, number] = torch.empty(size, dtype=dtype)
        return block[:size].view(shape)
