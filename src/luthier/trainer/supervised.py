"""Learning to write the answers of examples: the mean loss over their learned tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.data.render import Rendered
from luthier.trainer import batches, device, evaluate, losses
from luthier.trainer.dataset import Dataset
from luthier.trainer.losses import Sums
from luthier.trainer.model import Tuned


@dataclass(frozen=True, slots=True)
class Supervised:
    """The Objective of examples with answers."""

    examples: Dataset

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def longest(self) -> int:
        return max(len(sequence.token_ids) for sequence in self.examples.all)

    def gradients(self, tuned: Tuned, indexes: Sequence[int], budget: int) -> Sums:
        return gradients(tuned, self.examples.batch(indexes), budget)

    def evaluate(self, tuned: Tuned, indexes: Sequence[int]) -> Sums:
        return evaluate.evaluate(tuned, self.examples.batch(indexes))


def gradients(tuned: Tuned, sequences: list[Rendered], budget: int) -> Sums:
    """Adds to the parameters' gradients that of the mean loss over all supervised tokens of `sequences`.

    They go through the model in groups of at most `budget` tokens; how they are grouped changes nothing but rounding.
    """
    step_tokens = batches.supervised_tokens(sequences)
    sums = Sums()
    for group in batches.split(sequences, budget):
        flat = device.place(batches.flatten(group), tuned.place)
        hidden_NH = tuned.hidden(flat)
        gradient_NH, part = losses.with_gradient(
            hidden_NH,
            tuned.head_VH,
            flat.labels_N,
            flat.weights_N,
            step_tokens,
            tuned.compiled,
            tuned.head_gradient,
        )
        tuned.backward(hidden_NH, gradient_NH)
        sums += part
    return sums
