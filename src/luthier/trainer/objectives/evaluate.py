"""Validation: loss and accuracy on held-out examples without gradients, and which examples a step is validated on."""

from collections.abc import Sequence

import torch

from luthier.data.rendering.renderer import Rendered
from luthier.trainer.dataset import packing
from luthier.trainer.model import devices, head_loss
from luthier.trainer.model.head_loss import LossSums
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.objectives import passes
from luthier.trainer.ranks.rank_group import ALONE, RankGroup


@torch.no_grad()
def evaluate(tuned: TunedModel, sequences: Sequence[Rendered], ranks: RankGroup = ALONE) -> LossSums:
    """Loss and accuracy over all supervised tokens of these sequences, in plain numbers; dropout is off meanwhile.

    `sequences` are this rank's own; the `ranks` matter if they share the base's weights.
    """
    was_training = tuned.causal.training
    tuned.causal.eval()
    sums = LossSums()
    groups = packing.split_into_micro_batches(sequences, packing.EVALUATION_BUDGET)
    for group in passes.in_step(tuned, ranks, groups):
        packed = devices.to_device(packing.pack_sequences(group), tuned.device)
        sums += head_loss.loss_of(tuned.hidden(packed), tuned.head, packed.labels_N, packed.weights_N)
    tuned.causal.train(was_training)
    return sums.on_host()


def interval(n_steps: int) -> int:
    """Steps from one validation batch to the next: a tenth of the run, at least one and at most ten."""
    return min(max(n_steps // 10, 1), 10)


def validation_batch(n_examples: int, batch_size: int, turn: int) -> list[int]:
    """The validation batch number `turn`, as indexes of examples: the file in order, starting over at its end.

    Smaller than `batch_size` only if the file is.
    """
    size = min(batch_size, n_examples)
    return [(turn * size + place) % n_examples for place in range(size)]
