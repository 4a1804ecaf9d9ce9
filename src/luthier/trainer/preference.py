"""Learning to prefer one of two outputs: the sigmoid loss of DPO (Rafailov and others, 2023).

An output's reward is beta times its log-probability under the model, less that under the reference: the sum over its
learned tokens. The loss of a pair is -log sigmoid(reward of the preferred - reward of the other), that of a step the
mean over its pairs. Both outputs lie in one row, so what comes before them is computed once. A pair's slope is known
only when the whole row is; it then scales the gradient of each token's own nats, so the head too runs once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from luthier.data.render import Rendered
from luthier.run_directory import Rewards
from luthier.trainer import batches, device, losses
from luthier.trainer.batches import Flat
from luthier.trainer.dataset import Dataset
from luthier.trainer.model import Tuned


@dataclass(frozen=True, slots=True)
class Pair:
    """The sequences of a preferred output and of the other, each with all that is read before it."""

    preferred: tuple[Rendered, ...]
    other: tuple[Rendered, ...]

    @property
    def sequences(self) -> tuple[Rendered, ...]:
        return (*self.preferred, *self.other)


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over pairs; `tokens` are the learned tokens of their preferred outputs.

    `values_5` are: loss in nats; pairs whose preferred output has the greater reward; the preferred outputs' rewards;
    the others'; and how many of `tokens` were the likeliest. On the device until `on_host`.
    """

    values_5: Tensor
    tokens: int
    pairs: int

    def on_host(self) -> "Sums":
        return Sums(self.values_5.cpu(), self.tokens, self.pairs)

    def __add__(self, more: "Sums") -> "Sums":
        return Sums(self.values_5 + more.values_5, self.tokens + more.tokens, self.pairs + more.pairs)

    @property
    def loss(self) -> float:
        return float(self.values_5[0]) / self.pairs

    @property
    def accuracy(self) -> float:
        return float(self.values_5[4]) / self.tokens

    @property
    def example_losses(self) -> None:
        """Of pairs they are not told."""

    @property
    def rewards(self) -> Rewards:
        wins, chosen, rejected = (float(value) / self.pairs for value in self.values_5[1:4])
        return Rewards(accuracy=wins, margin=chosen - rejected, chosen=chosen, rejected=rejected)


@dataclass(frozen=True, slots=True)
class Preferences:
    """The Objective of preference pairs. `reference_P2` are log-probabilities of both outputs under the reference."""

    pairs: tuple[Pair, ...]
    reference_P2: Tensor
    beta: float

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def examples(self) -> Dataset:
        return Dataset(tuple(pair.sequences for pair in self.pairs))

    @property
    def longest(self) -> int:
        return max(sum(len(sequence.token_ids) for sequence in pair.sequences) for pair in self.pairs)

    def gradients(self, tuned: Tuned, indexes: Sequence[int], budget: int) -> Sums:
        total = _nothing(tuned.place)
        for group in self._groups(indexes, budget):
            row = lay([self.pairs[index] for index in group], tuned.place)
            hidden_NH = tuned.hidden(row.flat)
            gradient_NH = torch.empty_like(hidden_NH)
            wanted = torch.ones_like(row.flat.weights_N), gradient_NH
            nats_N, correct_N = losses.each(hidden_NH, tuned.head_VH, row.flat.labels_N, tuned.compiled, wanted)
            sums, slopes_N = self._compare(group, row, nats_N, correct_N)
            # In float32: a slope rounded to bf16 would be wrong for all tokens of an output alike.
            gradient_NH.copy_(gradient_NH.float() * (slopes_N / len(indexes))[:, None])
            tuned.backward(hidden_NH, gradient_NH)
            total += sums
        return total

    @torch.no_grad()
    def evaluate(self, tuned: Tuned, indexes: Sequence[int]) -> Sums:
        was_training = tuned.causal.training
        tuned.causal.eval()
        total = _nothing(tuned.place)
        for group in self._groups(indexes, batches.EVALUATION_BUDGET):
            row = lay([self.pairs[index] for index in group], tuned.place)
            total += self._compare(group, row, *guesses(tuned, row))[0]
        tuned.causal.train(was_training)
        return total.on_host()

    def _groups(self, indexes: Sequence[int], budget: int) -> list[list[int]]:
        """Indexes of pairs that go through the model together."""
        chosen = [self.pairs[index].sequences for index in indexes]
        return [[indexes[place] for place in group] for group in batches.groups(chosen, budget)]

    def _compare(self, group: list[int], row: "Row", nats_N: Tensor, correct_N: Tensor) -> tuple[Sums, Tensor]:
        """The sums of a group; and for each learned token what a nat of it adds to the group's loss."""
        reference_P2 = self.reference_P2[group].to(nats_N.device)
        rewards_P2 = self.beta * (row.log_probabilities(nats_N) - reference_P2)
        margins_P = rewards_P2[:, 0] - rewards_P2[:, 1]
        slopes_P = self.beta * torch.sigmoid(-margins_P)
        preferred_N = row.outputs_N % 2 == 0
        values = (
            functional.softplus(-margins_P).sum(),
            (margins_P > 0).sum(),
            rewards_P2[:, 0].sum(),
            rewards_P2[:, 1].sum(),
            correct_N[preferred_N].sum(),
        )
        slopes_N = torch.stack([slopes_P, -slopes_P], dim=1).flatten()[row.outputs_N]
        sums = Sums(torch.stack([value.double() for value in values]), row.preferred_tokens, len(group))
        return sums, slopes_N.float()


@dataclass(frozen=True, slots=True)
class Row:
    """Pairs laid end to end. `outputs_N` says of each learned token which output it is of: 2 * pair, + 1 for others."""

    flat: Flat
    outputs_N: Tensor
    n_pairs: int
    preferred_tokens: int

    def log_probabilities(self, nats_N: Tensor) -> Tensor:
        """Each output's, [P, 2], from the nats of its tokens; summed in float64."""
        sums = torch.zeros(2 * self.n_pairs, dtype=torch.float64, device=nats_N.device)
        return -sums.index_add_(0, self.outputs_N, nats_N.double()).view(-1, 2)


def lay(pairs: Sequence[Pair], place: torch.device) -> Row:
    """Both outputs of all pairs in one row, shared beginnings once."""
    flat = batches.flatten([sequence for pair in pairs for sequence in pair.sequences])
    outputs = [output for pair in pairs for output in (pair.preferred, pair.other)]
    tokens = [batches.supervised_tokens(output) for output in outputs]
    outputs_N = torch.arange(len(outputs)).repeat_interleave(torch.tensor(tokens))
    return Row(device.place(flat, place), outputs_N.to(place), len(pairs), sum(tokens[::2]))


def guesses(tuned: Tuned, row: Row) -> tuple[Tensor, Tensor]:
    """Nats of each learned token, and whether it was the likeliest."""
    return losses.each(tuned.hidden(row.flat), tuned.head_VH, row.flat.labels_N, tuned.compiled, None)


def _nothing(place: torch.device) -> Sums:
    return Sums(torch.zeros(5, dtype=torch.float64, device=place), 0, 0)
