"""The interface between the loop and what is trained on: examples with their loss, for supervised runs and for DPO.

`sft` and `dpo` implement it; `build_objectives` chooses by the spec.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, assert_never

from luthier.core.errors import InvalidRequest
from luthier.core.states import Method, Tuning
from luthier.run_directory.run_events import Rewards
from luthier.run_directory.train_spec import TrainSpec
from luthier.trainer.dataset.token_cache import Examples
from luthier.trainer.dataset.training_examples import Dataset
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.objectives import reference_log_probs
from luthier.trainer.objectives.dpo import Pair, PreferenceObjective
from luthier.trainer.objectives.sft import SupervisedObjective
from luthier.trainer.ranks.rank_group import ALONE, RankGroup
from luthier.trainer.run.provenance import Origin


class Figures(Protocol):
    """Loss, accuracy and rewards over some examples. Values may be tensors on a GPU until `on_host`."""

    def on_host(self) -> "Figures":
        """The same figures as numbers on the CPU; waits for the device to finish its pending work."""
        ...

    def over_ranks(self, ranks: RankGroup) -> "Figures":
        """The figures of the whole batch, in all ranks, from those of each rank's share; of figures on the host."""
        ...

    @property
    def loss(self) -> float:
        """The mean loss in nats: per supervised token, or per preference pair."""
        ...

    @property
    def accuracy(self) -> float:
        """Share (0 to 1) of supervised tokens that were the likeliest; of a pair, those of its chosen output."""
        ...

    @property
    def example_losses(self) -> tuple[float, ...] | None:
        """The mean loss of each example of a batch, in order, in nats per supervised token; None if not measured."""
        ...

    @property
    def rewards(self) -> Rewards | None:
        """Mean rewards of the outputs of preference pairs; None in a supervised run."""
        ...


class Objective(Protocol):
    """The examples of one data file, with the loss that a model is trained by or validated on."""

    def __len__(self) -> int:
        """How many examples there are; a preference pair is one."""
        ...

    @property
    def examples(self) -> Dataset:
        """The token sequences of each example; of a pair those of both outputs."""
        ...

    @property
    def longest(self) -> int:
        """Tokens of the longest unit that one forward pass must hold: a sequence, or both outputs of a pair."""
        ...

    def gradients(self, tuned: TunedModel, indexes: Sequence[int], budget: int) -> Figures:
        """Adds to the trainable parameters' gradients that of the mean loss over the examples with these indexes.

        Of several ranks each adds the part of its share of them: the sum over the ranks is the gradient. They go
        through the model in groups of about `budget` tokens; how they are grouped changes nothing but rounding. Returns
        the figures of the share, on the device.
        """
        ...

    def evaluate(self, tuned: TunedModel, indexes: Sequence[int]) -> Figures:
        """The same figures without gradients or dropout, as numbers on the CPU; those of all ranks' shares."""
        ...


def build_objectives(
    tuned: TunedModel,
    examples_by_name: Mapping[str, Examples],
    cache_folder: Path,
    spec: TrainSpec,
    origin: Origin,
    stop: Callable[[], bool],
    ranks: RankGroup = ALONE,
) -> list[Objective] | None:
    """An Objective of each data file, in their order, given the model before the first step.

    For DPO it computes the reference's log-probabilities, or reads them from `cache_folder`; None if `stop` asked to
    leave meanwhile. Raises InvalidRequest where the method does not go with the tuning.
    """
    objectives: list[Objective] = []
    for name, examples in examples_by_name.items():
        match spec.method:
            case Method.SUPERVISED:
                objectives.append(SupervisedObjective(Dataset(examples), ranks))
            case Method.DPO:
                assert spec.beta is not None
                _refuse_all_weights(spec)
                pairs = tuple(Pair(*outputs) for outputs in zip(examples[::2], examples[1::2], strict=True))
                path = cache_folder / f"{name}.reference.safetensors"
                reference_P2 = reference_log_probs.compute(
                    tuned, pairs, path, reference_log_probs.key(origin, name), stop, ranks
                )
                if reference_P2 is None:
                    return None
                objectives.append(PreferenceObjective(pairs, reference_P2, spec.beta, ranks))
            case _:
                assert_never(spec.method)
    return objectives


def _refuse_all_weights(spec: TrainSpec) -> None:
    """Raises InvalidRequest for DPO with all weights tuned, on behalf of the job's creator.

    The factor of a pair's gradient is known once the head has run; the head's own gradient would need it before.
    """
    if spec.tuning is Tuning.FULL:
        raise InvalidRequest(
            "method_not_supported",
            "Preferences are learned by an adapter alone, and this base model is set to have all weights tuned. Take a "
            'base model whose entry in the catalog has tuning = "lora".',
            param="method",
        )
