"""Learning to write the answers of examples: the mean loss over their learned tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

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
        sums = gradients(tuned, self.examples.batch(indexes), budget)
        return replace(sums, each=tuple(self._example_losses(indexes, sums.each)))

    def _example_losses(self, indexes: Sequence[int], each: Sequence[float | Tensor]) -> Iterator[float | Tensor]:
        """The mean loss of each example over its learned tokens, from the nats of its sequences."""
        nats = iter(each)
        for index in indexes:
            sequences = self.examples.sequences[index]
            yield sum(next(nats) for _ in sequences) / batches.supervised_tokens(sequences)

    def evaluate(self, tuned: Tuned, indexes: Sequence[int]) -> Sums:
        return evaluate.evaluate(tuned, self.examples.batch(indexes))


def gradients(tuned: Tuned, sequences: list[Rendered], budget: int) -> Sums:
    """Adds to the parameters' gradients that of the mean loss over all supervised tokens of `sequences`.

    They go through the model in groups of at most `budget` tokens; how they are grouped changes nothing but rounding.
    """
    counts = [batches.supervised_tokens([sequence]) for sequence in sequences]
    step_tokens = sum(counts)
    sums, taken = Sums(), []
    for group in batches.groups([(sequence,) for sequence in sequences], budget):
        flat = device.place(batches.flatten([sequences[place] for place in group]), tuned.place)
        hidden_NH = tuned.hidden(flat)
        gradient_NH, part = losses.with_gradient(
            hidden_NH,
            tuned.head_VH,
            flat.labels_N,
            flat.weights_N,
            step_tokens,
            tuned.compiled,
            tuned.head_gradient,
            [counts[place] for place in group],
        )
        tuned.backward(hidden_NH, gradient_NH)
        sums += part
        taken += group
    by_place = dict(zip(taken, sums.each, strict=True))
    return replace(sums, each=tuple(by_place[place] for place in range(len(sequences))))
