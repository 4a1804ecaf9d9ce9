"""Training of all weights: float32 masters that the optimizer updates, and the model's weights rounded from them."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class MasterWeights:
    """Pairs of a master in float32 and the model's weight, which are one tensor where the model computes in float32.

    bf16 has eight bits of mantissa: most updates at a small learning rate would be rounded away, so they are summed
    here.
    """

    pairs: tuple[tuple[Tensor, Tensor], ...] = field(repr=False)
    head_VH: Tensor = field(repr=False)
    """The head's master. The loss gives its gradient apart from autograd, and tied embeddings share it."""

    @property
    def head_gradient(self) -> Tensor:
        """The head's accumulated gradient in float32, [V, H]: the loss adds to it in place."""
        assert self.head_VH.grad is not None
        return self.head_VH.grad

    def collect(self) -> None:
        """Moves what a backward pass left at the model's weights to the masters' gradients, which it adds to."""
        for master, weight in self.pairs:
            if weight is not master and weight.grad is not None:
                assert master.grad is not None
                master.grad.add_(weight.grad)
                weight.grad = None

    @torch.no_grad()
    def refresh(self) -> None:
        """Overwrites the model's weights with the masters' present values, rounded."""
        for master, weight in self.pairs:
            if weight is not master:
                weight.copy_(master)


def create_masters(parameters: dict[str, Tensor], head_VH: Tensor) -> tuple[dict[str, Tensor], MasterWeights]:
    """The masters by the names of `parameters`, gradients of zero at each; and MasterWeights, which pair them.

    Makes the parameters require gradients. `head_VH` must be one of them.
    """
    masters: dict[str, Tensor] = {}
    pairs = []
    head = None
    for name, weight in parameters.items():
        weight.requires_grad_(True)
        master = weight if weight.dtype == torch.float32 else weight.detach().float().requires_grad_(True)
        master.grad = torch.zeros_like(master)
        masters[name] = master
        pairs.append((master, weight))
        head = master if weight is head_VH else head
    assert head is not None
    return masters, MasterWeights(tuple(pairs), head)
