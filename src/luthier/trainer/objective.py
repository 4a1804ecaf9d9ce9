"""What a run learns from and by, as the loop sees it: examples, gradients of a batch, figures of held-out ones."""

from collections.abc import Callable, Sequence
from typing import Protocol, assert_never

from luthier.core.errors import InvalidRequest
from luthier.core.states import Method
from luthier.run_directory import Rewards, TrainSpec
from luthier.trainer import reference
from luthier.trainer.dataset import Dataset, Source
from luthier.trainer.manifest import Origin
from luthier.trainer.model import Tuned
from luthier.trainer.preference import Pair, Preferences
from luthier.trainer.supervised import Supervised
from luthier.trainer.token_cache import Examples


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
        """The mean loss of each example of a batch, in its order; None where that was not measured."""
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

    def gradients(self, tuned: Tuned, indexes: Sequence[int], budget: int) -> Measured:
        """Adds to the adapters' gradients that of the mean loss over the examples with these indexes.

        They go through the model in groups of about `budget` tokens; how they are grouped changes nothing but rounding.
        """
        ...

    def evaluate(self, tuned: Tuned, indexes: Sequence[int]) -> Measured:
        """The same figures without gradients, in plain numbers."""
        ...


def make(
    tuned: Tuned,
    loaded: Sequence[Examples],
    sources: Sequence[Source],
    spec: TrainSpec,
    origin: Origin,
    stop: Callable[[], bool],
) -> list[Objective] | None:
    """An Objective of each file, the model being as the run begins; None if `stop` asked to leave meanwhile."""
    found: list[Objective] = []
    for examples, source in zip(loaded, sources, strict=True):
        match spec.method:
            case Method.SUPERVISED:
                found.append(Supervised(Dataset(examples)))
            case Method.DPO:
                assert spec.beta is not None
                _refuse_all_weights(tuned)
                pairs = tuple(Pair(*outputs) for outputs in zip(examples[::2], examples[1::2], strict=True))
                path = source.cache.with_name(f"{source.name}.reference.safetensors")
                reference_P2 = reference.compute(tuned, pairs, path, reference.key(origin, source.name), stop)
                if reference_P2 is None:
                    return None
                found.append(Preferences(pairs, reference_P2, spec.beta))
            case _:
                assert_never(spec.method)
    return found


def _refuse_all_weights(tuned: Tuned) -> None:
    """A pair's slope is known when the head has run, and the head's own gradient would need it before."""
    if tuned.masters is not None:
        raise InvalidRequest(
            "method_not_supported",
            "Preferences are learned by an adapter alone, and this base model is set to have all weights tuned. Take a "
            'base model whose entry in the catalog has tuning = "lora".',
            param="method",
        )
