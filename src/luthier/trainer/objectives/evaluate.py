"""Validation: the loss of held-out examples, without gradients."""

from collections.abc import Sequence

import torch

from luthier.data.rendering.renderer import Rendered
from luthier.trainer.dataset import packing
from luthier.trainer.model import devices, head_loss
from luthier.trainer.model.head_loss import LossSums
from luthier.trainer.model.tuned_model import TunedModel


@torch.no_grad()
def evaluate(tuned: TunedModel, sequences: Sequence[Rendered]) -> LossSums:
    """Loss and accuracy over all supervised tokens of these sequences, many of them in a forward pass."""
    was_training = tuned.causal.training
    tuned.causal.eval()
    sums = LossSums()
    for group in packing.split_into_micro_batches(sequences, packing.EVALUATION_BUDGET):
        packed = devices.to_device(packing.pack_sequences(group), tuned.device)
        sums += head_loss.loss_of(tuned.hidden(packed), tuned.head, packed.labels_N, packed.weights_N)
    tuned.causal.train(was_training)
    return sums.on_host()


def interval(n_steps: int) -> int:
    """Steps from one validation batch to the next: about ten in a short run, every tenth step in a long one."""
    return min(max(n_steps // 10, 1), 10)


def chosen(n_examples: int, batch_size: int, turn: int) -> list[int]:
    """The examples of the validation batch at its `turn`: the file in order, round and round."""
    size = min(batch_size, n_examples)
    return [(turn * size + place) % n_examples for place in range(size)]
