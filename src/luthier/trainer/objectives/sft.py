"""Supervised fine-tuning: the mean cross-entropy over the supervised tokens of a batch, and its gradient."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from luthier.data.rendering.renderer import Rendered
from luthier.trainer.dataset import packing
from luthier.trainer.dataset.training_examples import Dataset
from luthier.trainer.model import devices, head_loss
from luthier.trainer.model.head_loss import LossSums
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.objectives import evaluate


@dataclass(frozen=True, slots=True)
class SupervisedObjective:
    """The Objective of supervised examples: next-token prediction on the answers that are learned."""

    examples: Dataset

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(len(sequence.token_ids) for sequence in self.examples.all)

    def gradients(self, tuned: TunedModel, indexes: Sequence[int], budget: int) -> LossSums:
        """Adds to the parameters' gradients that of the mean loss over these examples' supervised tokens.

        The sums, on the device, carry the mean loss of each example.
        """
        sums = gradients(tuned, self.examples.batch(indexes), budget)
        return replace(sums, mean_losses=tuple(self._example_losses(indexes, sums.sequence_nats)))

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
        return evaluate.evaluate(tuned, self.examples.batch(indexes))


def gradients(tuned: TunedModel, sequences: list[Rendered], budget: int) -> LossSums:
    """Adds to the parameters' gradients that of the mean loss over all supervised tokens of `sequences`.

    They go through the model in groups of at most `budget` tokens; how they are grouped changes nothing but rounding.
    Returns sums on the device; their `sequence_nats` are in the order of `sequences`.
    """
    counts = [packing.supervised_tokens([sequence]) for sequence in sequences]
    step_tokens = sum(counts)
    sums, computed = LossSums(), []
    for group in packing.micro_batches([(sequence,) for sequence in sequences], budget):
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
