"""Direct preference optimization with the sigmoid loss (DPO: Rafailov and others, 2023).

An output's reward is beta times its log-probability under the model less that under the reference, summed over its
supervised tokens. The loss of a pair is -log sigmoid(chosen reward - rejected reward), that of a step the mean over its
pairs. Both outputs are packed into one row, so their shared prompt is computed once. The derivative of a pair's loss is
known only after the whole row; it then scales the gradient of each token's own NLL, so the head runs once as well.

Axes: P pairs, N supervised tokens of a row, H hidden size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from luthier.data.rendering.renderer import Rendered
from luthier.run_directory.run_events import Rewards
from luthier.trainer.dataset import packing
from luthier.trainer.dataset.packing import PackedBatch
from luthier.trainer.dataset.training_examples import Dataset
from luthier.trainer.model import devices, head_loss
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.objectives import passes
from luthier.trainer.ranks.rank_group import ALONE, RankGroup


@dataclass(frozen=True, slots=True)
class Pair:
    """The sequences of the chosen and of the rejected output, each with its prompt."""

    chosen: tuple[Rendered, ...]
    rejected: tuple[Rendered, ...]

    @property
    def sequences(self) -> tuple[Rendered, ...]:
        return (*self.chosen, *self.rejected)


@dataclass(frozen=True, slots=True)
class PairSums:
    """Sums over pairs; `tokens` are the supervised tokens of their chosen outputs, `pairs` counts the pairs.

    `values_5` are: loss in nats; pairs whose chosen output has the greater reward; chosen rewards; rejected rewards;
    how many of `tokens` were the most likely ones. On the device until `on_host`.
    """

    values_5: Tensor
    tokens: int
    pairs: int

    def on_host(self) -> "PairSums":
        """The same on the CPU; waits for the device."""
        return PairSums(self.values_5.cpu(), self.tokens, self.pairs)

    def over_ranks(self, ranks: RankGroup) -> "PairSums":
        """The sums over all ranks, of sums on the host."""
        if ranks.size == 1:
            return self
        *values, tokens, pairs = ranks.sums([*self.values_5.tolist(), self.tokens, self.pairs])
        return PairSums(torch.tensor(values, dtype=torch.float64), int(tokens), int(pairs))

    def __add__(self, more: "PairSums") -> "PairSums":
        return PairSums(self.values_5 + more.values_5, self.tokens + more.tokens, self.pairs + more.pairs)

    @property
    def loss(self) -> float:
        """The mean loss of a pair, in nats."""
        return float(self.values_5[0]) / self.pairs

    @property
    def accuracy(self) -> float:
        """Share of the chosen outputs' supervised tokens that were the most likely ones."""
        return float(self.values_5[4]) / self.tokens

    @property
    def example_losses(self) -> None:
        """None: pairs are not measured one by one."""

    @property
    def rewards(self) -> Rewards:
        """Means over the pairs, in nats; `accuracy` is the share of pairs whose chosen output has the greater one."""
        wins, chosen, rejected = (float(value) / self.pairs for value in self.values_5[1:4])
        return Rewards(accuracy=wins, margin=chosen - rejected, chosen=chosen, rejected=rejected)


@dataclass(frozen=True, slots=True)
class PreferenceObjective:
    """The Objective of preference pairs; `beta` is that of the loss. Each of the `ranks` computes its share of a batch.

    `reference_P2` are the log-probabilities of both outputs under the reference, float64 on the CPU, chosen first.
    """

    pairs: tuple[Pair, ...]
    reference_P2: Tensor
    beta: float
    ranks: RankGroup = ALONE

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def examples(self) -> Dataset:
        """The sequences of each pair, those of the chosen output first."""
        return Dataset(tuple(pair.sequences for pair in self.pairs))

    @property
    def longest(self) -> int:
        """Tokens of the longest pair: both outputs, each with its prompt."""
        return max(sum(len(sequence.token_ids) for sequence in pair.sequences) for pair in self.pairs)

    def gradients(self, tuned: TunedModel, indexes: Sequence[int], budget: int) -> PairSums:
        """Adds to the adapter's gradients this rank's part of that of the pairs' mean loss; sums stay on the device.

        A micro-batch has whole pairs, about `budget` tokens of them. The head is frozen and gets no gradient.
        """
        total = _zero_sums(tuned.device)
        for group in self._groups(tuned, indexes, budget):
            row = pack_pairs([self.pairs[index] for index in group], tuned.device)
            hidden_NH = tuned.hidden(row.packed)
            gradient_NH = torch.empty_like(hidden_NH)
            factors_N = torch.ones_like(row.packed.weights_N)
            nats_N, correct_N = head_loss.token_nats(
                hidden_NH, tuned.head, row.packed.labels_N, (factors_N, gradient_NH)
            )
            sums, slopes_N = self._compare(group, row, nats_N, correct_N)
            # In float32: a slope rounded to bf16 would be wrong for all tokens of an output alike.
            gradient_NH.copy_(gradient_NH.float() * (slopes_N / len(indexes))[:, None])
            tuned.backward(hidden_NH, gradient_NH)
            total += sums
        return total

    @torch.no_grad()
    def evaluate(self, tuned: TunedModel, indexes: Sequence[int]) -> PairSums:
        """The sums over these pairs on the CPU, without gradients; dropout is off meanwhile."""
        was_training = tuned.causal.training
        tuned.causal.eval()
        total = _zero_sums(tuned.device)
        for group in self._groups(tuned, indexes, packing.EVALUATION_BUDGET):
            row = pack_pairs([self.pairs[index] for index in group], tuned.device)
            total += self._compare(group, row, *output_nats(tuned, row))[0]
        tuned.causal.train(was_training)
        return total.on_host().over_ranks(self.ranks)

    def _groups(self, tuned: TunedModel, indexes: Sequence[int], budget: int) -> Iterator[list[int]]:
        """The micro-batches of this rank, of about `budget` tokens, as indexes of pairs; no pair is split."""
        outputs = [self.pairs[index].sequences for index in indexes]
        own = packing.split_over_ranks(outputs, self.ranks.size)[self.ranks.rank]
        groups = packing.micro_batches([outputs[place] for place in own], budget)
        return passes.in_step(tuned, self.ranks, ([indexes[own[place]] for place in group] for group in groups))

    def _compare(
        self, group: list[int], row: "PackedPairs", nats_N: Tensor, correct_N: Tensor
    ) -> tuple[PairSums, Tensor]:
        """The sums of a micro-batch; and the derivative of its summed loss by each supervised token's NLL, [N]."""
        reference_P2 = self.reference_P2[group].to(nats_N.device)
        rewards_P2 = self.beta * (row.log_probabilities(nats_N) - reference_P2)
        margins_P = rewards_P2[:, 0] - rewards_P2[:, 1]
        slopes_P = self.beta * torch.sigmoid(-margins_P)
        chosen_N = row.outputs_N % 2 == 0
        values = (
            functional.softplus(-margins_P).sum(),
            (margins_P > 0).sum(),
            rewards_P2[:, 0].sum(),
            rewards_P2[:, 1].sum(),
            correct_N[chosen_N].sum(),
        )
        slopes_N = torch.stack([slopes_P, -slopes_P], dim=1).flatten()[row.outputs_N]
        sums = PairSums(torch.stack([value.double() for value in values]), row.chosen_tokens, len(group))
        return sums, slopes_N.float()


@dataclass(frozen=True, slots=True)
class PackedPairs:
    """Pairs packed into one row. `outputs_N` is the output of each supervised token: 2 * pair, + 1 if rejected.

    `chosen_tokens` counts the supervised tokens of all chosen outputs.
    """

    packed: PackedBatch
    outputs_N: Tensor
    n_pairs: int
    chosen_tokens: int

    def log_probabilities(self, nats_N: Tensor) -> Tensor:
        """Each output's log-probability, [P, 2], chosen first, from the nats of its tokens; summed in float64."""
        sums = torch.zeros(2 * self.n_pairs, dtype=torch.float64, device=nats_N.device)
        return -sums.index_add_(0, self.outputs_N, nats_N.double()).view(-1, 2)


def pack_pairs(pairs: Sequence[Pair], place: torch.device) -> PackedPairs:
    """Both outputs of all pairs packed into one row on the device `place`; prefixes that they share are in it once."""
    packed = packing.pack_sequences([sequence for pair in pairs for sequence in pair.sequences])
    outputs = [output for pair in pairs for output in (pair.chosen, pair.rejected)]
    tokens = [packing.supervised_tokens(output) for output in outputs]
    outputs_N = torch.arange(len(outputs)).repeat_interleave(torch.tensor(tokens))
    return PackedPairs(devices.to_device(packed, place), outputs_N.to(place), len(pairs), sum(tokens[::2]))


def output_nats(tuned: TunedModel, row: PackedPairs) -> tuple[Tensor, Tensor]:
    """Runs the model: each supervised token's NLL in nats, and whether it was the most likely one; [N] both."""
    return head_loss.token_nats(tuned.hidden(row.packed), tuned.head, row.packed.labels_N)


def _zero_sums(place: torch.device) -> PairSums:
    return PairSums(torch.zeros(5, dtype=torch.float64, device=place), 0, 0)
