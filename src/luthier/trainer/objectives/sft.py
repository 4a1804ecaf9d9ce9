"""Supervised fine-tuning: the mean cross-entropy over the supervised tokens of a batch, and its gradient."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

from torch import Tensor

from luthier.data.rendering.renderer import Rendered
from luthier.trainer.dataset import packing
from luthier.trainer.dataset.training_examples import Dataset
from luthier.trainer.model import devices, head_loss
from luthier.trainer.model.head_loss import LossSums
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.objectives import evaluate, passes
from luthier.trainer.ranks.rank_group import ALONE, RankGroup


@dataclass(frozen=True, slots=True)
class SupervisedObjective:
    """The Objective of supervised examples: next-token prediction on the answers that are learned.

    Each of the `ranks` computes its share of a batch.
    """

    examples: Dataset
    ranks: RankGroup = ALONE

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(len(sequence.token_ids) for sequence in self.examples.all)

    def gradients(self, tuned: TunedModel, indexes: Sequence[int], budget: int) -> LossSums:
        """Adds to the parameters' gradients this rank's part of that of the mean loss over all supervised tokens.

        The sums, on the device, carry the mean loss of each example; zero for those of other ranks.
        """
        step_tokens = packing.supervised_tokens(self.examples.batch(indexes))
        share = self._share(indexes)
        own = [indexes[place] for place in share]
        sums = gradients(tuned, self.examples.batch(own), budget, step_tokens, self.ranks)
        losses: list[float | Tensor] = list(repeat(0.0, len(indexes)))
        for place, loss in zip(share, self._example_losses(own, sums.sequence_nats), strict=True):
            losses[place] = loss
        return replace(sums, mean_losses=tuple(losses))

    def _share(self, indexes: Sequence[int]) -> list[int]:
        """The places in a batch of the examples that this rank computes."""
        sequences = [self.examples.sequences[index] for index in indexes]
        return packing.split_over_ranks(sequences, self.ranks.size)[self.ranks.rank]

    def _example_losses(
        self, indexes: Sequence[int], sequence_nats: Sequence[float | Tensor]
    ) -> Iterator[float | Tensor]:
        """Yields each example's mean loss over its supervised tokens; `sequence_nats` are in the examples' order."""
        nats = iter(sequence_nats)
        for index in indexes:
            sequences = self.examples.sequences[index]
            yield sum(next(nats) for _ in sequences) / packing.supervised_tokens(sequences)

    def evaluate(self, tuned: TunedModel, indexes: Sequence[int]) -> LossSums:
        """Loss and accuracy over these examples in plain numbers, without gradients; no losses of single examples."""
        own = [indexes[place] for place in self._share(indexes)]
        return evaluate.evaluate(tuned, self.examples.batch(own), self.ranks).over_ranks(self.ranks)


def gradients(
    tuned: TunedModel,
    sequences: list[Rendered],
    budget: int,
    step_tokens: int | None = None,
    ranks: RankGroup = ALONE,
) -> LossSums:
    """Adds to the parameters' gradients that of these sequences' summed loss divided by `step_tokens`.

    Those are the supervised tokens of the whole batch; None: of `sequences`. They go through the model in groups of at
    most `budget` tokens; how they are grouped changes nothing but rounding. Returns sums on the device; their
    `sequence_nats` are in the order of `sequences`.
    """
    counts = [packing.supervised_tokens([sequence]) for sequence in sequences]
    step_tokens = sum(counts) if step_tokens is None else step_tokens
    sums, computed = LossSums(), []
    groups = packing.micro_batches([(sequence,) for sequence in sequences], budget)
    for group in passes.in_step(tuned, ranks, groups):
        packed = devices.to_device(packing.pack_sequences([sequences[index] for index in group]), tuned.device)
        hidden_NH = tuned.hidden(packed)
        gradient_NH, part = head_loss.loss_with_gradient(
            hidden_NH,
            tuned.head,
            packed.labels_N,
            packed.weights_N,
            step_tokens,
            tuned.head_gradient,
            [counts[index] for index in group],
        )
        tuned.backward(hidden_NH, gradient_NH)
        sums += part
        computed += group
    by_index = dict(zip(computed, sums.sequence_nats, strict=True))
    return replace(sums, sequence_nats=tuple(by_index[index] for index in range(len(sequences))))
