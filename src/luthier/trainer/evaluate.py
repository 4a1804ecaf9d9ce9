"""Validation: the loss of held-out examples, without gradients."""

from collections.abc import Sequence

import torch

from luthier.data.render import Rendered
from luthier.trainer import batches, device, losses
from luthier.trainer.losses import Sums
from luthier.trainer.model import Tuned


@torch.no_grad()
def evaluate(tuned: Tuned, sequences: Sequence[Rendered]) -> Sums:
    """Loss and accuracy over all supervised tokens of these sequences, many of them in a forward pass."""
    was_training = tuned.causal.training
    tuned.causal.eval()
    sums = Sums()
    for group in batches.split(sequences, batches.EVALUATION_BUDGET):
        flat = device.place(batches.flatten(group), tuned.place)
        sums += losses.measure(tuned.hidden(flat), tuned.head_VH, flat.labels_N, flat.weights_N, tuned.compiled)
    tuned.causal.train(was_training)
    return sums.on_host()


def interval(n_steps: int) -> int:
    """Steps from one validation batch to the next: about ten in a short run, every tenth step in a long one."""
    return min(max(n_steps // 10, 1), 10)


def chosen(n_examples: int, batch_size: int, turn: int) -> list[int]:
    """The examples of the validation batch at its `turn`: the file in order, round and round."""
    size = min(batch_size, n_examples)
    return [(turn * size + place) % n_examples for place in range(size)]
