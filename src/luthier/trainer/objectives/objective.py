"""What a run learns from and by, as the loop sees it: examples, gradients of a batch, figures of held-out ones."""

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
from luthier.trainer.run.provenance import Origin


class Measured(Protocol):
    """Figures of some examples; they may lie on a device until `on_host`."""

    def on_host(self) -> "Measured": ...

    @property
    def loss(self) -> float: ...

    @property
    def accuracy(self) -> float:
        """Share of learned tokens that the model guesses right; of a pair, those of the preferred output."""
        ...

    @property
    def example_losses(self) -> tuple[float, ...] | None:
        """The mean loss of each example of a batch, in its order; None if it was not measured."""
        ...

    @property
    def rewards(self) -> Rewards | None:
        """What a pair's outputs earn; None where single answers are learned."""
        ...


class Objective(Protocol):
    """The examples of a file, and what a model is to learn from them."""

    def __len__(self) -> int: ...

    @property
    def examples(self) -> Dataset: ...

    @property
    def longest(self) -> int:
        """Tokens of the longest part of an example that has to go through the model at once."""
        ...

    def gradients(self, tuned: TunedModel, indexes: Sequence[int], budget: int) -> Measured:
        """Adds to the adapters' gradients that of the mean loss over the examples with these indexes.

        They go through the model in groups of about `budget` tokens; how they are grouped changes nothing but rounding.
        """
        ...

    def evaluate(self, tuned: TunedModel, indexes: Sequence[int]) -> Measured:
        """The same figures without gradients, in plain numbers."""
        ...


def build_objectives(
    tuned: TunedModel,
    examples_by_name: Mapping[str, Examples],
    cache_folder: Path,
    spec: TrainSpec,
    origin: Origin,
    stop: Callable[[], bool],
) -> list[Objective] | None:
    """An Objective of each data file, given the model before the first step; None if `stop` asked to leave."""
    objectives: list[Objective] = []
    for name, examples in examples_by_name.items():
        match spec.method:
            case Method.SUPERVISED:
                objectives.append(SupervisedObjective(Dataset(examples)))
            case Method.DPO:
                assert spec.beta is not None
                _refuse_all_weights(spec)
                pairs = tuple(Pair(*outputs) for outputs in zip(examples[::2], examples[1::2], strict=True))
                path = cache_folder / f"{name}.reference.safetensors"
                reference_P2 = reference_log_probs.compute(
                    tuned, pairs, path, reference_log_probs.key(origin, name), stop
                )
                if reference_P2 is None:
                    return None
                objectives.append(PreferenceObjective(pairs, reference_P2, spec.beta))
            case _:
                assert_never(spec.method)
    return objectives


def _refuse_all_weights(spec: TrainSpec) -> None:
    """DPO knows a pair's slope once the head has run, and the head's own gradient would need it before."""
    if spec.tuning is Tuning.FULL:
        raise InvalidRequest(
            "method_not_supported",
            "Preferences are learned by an adapter alone, and this base model is set to have all weights tuned. Take a "
            'base model whose entry in the catalog has tuning = "lora".',
            param="method",
        )
