"""Hyperparameters of a job: what was asked, and the written rule that turns "auto" into numbers.

The rule and its reasons stand in docs/hyperparameters.md. Ranges: OpenAI's published schema (docs/wire-contract.md,
section 6).
"""

import math
from dataclasses import dataclass

from luthier.core.errors import InvalidRequest
from luthier.core.states import Method

MAX_EPOCHS = 50
MAX_BATCH_SIZE = 256
MAX_SEED = 2**31 - 1
DEFAULT_PATIENCE = 2
"""Epochs that early stopping waits for a better validation loss: one that stands still is often followed by a fall."""
FEW_EXAMPLES = 20
FEW_EXAMPLES_STEPS = 40
FEW_EXAMPLES_MAX_EPOCHS = 10
AUTO_EPOCHS = 3
BATCH_SHARE = 0.6
"""Measured: 4 was better than 2 for 30 examples and 8 than 4 for 100, but not for 64 (docs/hyperparameters.md)."""
MAX_BETA = 2.0
DEFAULT_BETA = 0.1
"""What "auto" becomes: the value of OpenAI's own example of a DPO job."""
DPO_RATE = 0.1
"""The share of a base model's learning rate that preferences are learned at (docs/hyperparameters.md)."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """As the job asks for them: None means "auto". `beta` is of method dpo alone."""

    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None


@dataclass(frozen=True, slots=True)
class ResolvedHyperparameters:
    """Every value a number: what the trainer is given. `beta` is None if the method has none."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    beta: float | None
    method: Method


def check(asked: Hyperparameters, max_epochs: int = MAX_EPOCHS) -> None:
    """Raises InvalidRequest, which names the field, for a number outside its range; None ("auto") passes."""
    if asked.n_epochs is not None and not 1 <= asked.n_epochs <= max_epochs:
        raise _out_of_range("n_epochs", asked.n_epochs, f"a whole number from 1 to {max_epochs:,}")
    if asked.batch_size is not None and not 1 <= asked.batch_size <= MAX_BATCH_SIZE:
        raise _out_of_range("batch_size", asked.batch_size, f"a whole number from 1 to {MAX_BATCH_SIZE}")
    multiplier = asked.learning_rate_multiplier
    if multiplier is not None and not (math.isfinite(multiplier) and multiplier > 0):
        raise _out_of_range("learning_rate_multiplier", multiplier, "a number greater than 0")
    if asked.beta is not None and not 0 < asked.beta <= MAX_BETA:
        raise _out_of_range("beta", asked.beta, f"a number greater than 0, at most {MAX_BETA:g}")


def check_seed(seed: int | None) -> None:
    """Raises InvalidRequest for a seed outside its range; None, for one that the service chooses, passes."""
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise InvalidRequest("invalid_seed", f"seed is {seed}; it must be from 0 to {MAX_SEED}.", "seed")


def check_early_stopping(patience: int | None, has_validation: bool) -> None:
    """Raises InvalidRequest for a patience (epochs) outside its range, and for one without a validation file.

    None, for no early stopping, passes.
    """
    if patience is None:
        return
    if not 1 <= patience <= MAX_EPOCHS:
        text = f"The patience of early stopping is {patience}; it must be from 1 to {MAX_EPOCHS} epochs."
        raise InvalidRequest("invalid_early_stopping", text, "early_stopping")
    if not has_validation:
        raise InvalidRequest(
            "early_stopping_needs_validation",
            "Early stopping follows the validation loss, and there is no validation_file. Give one, or leave early "
            "stopping out.",
            "early_stopping",
        )


def resolve(asked: Hyperparameters, n_examples: int, method: Method = Method.SUPERVISED) -> ResolvedHyperparameters:
    """Turns each "auto" into a number from the count of training examples (docs/hyperparameters.md)."""
    batch_size = asked.batch_size or auto_batch_size(n_examples)
    return ResolvedHyperparameters(
        n_epochs=asked.n_epochs or auto_epochs(n_examples, batch_size),
        batch_size=batch_size,
        learning_rate_multiplier=asked.learning_rate_multiplier or 1.0,
        beta=(asked.beta or DEFAULT_BETA) if method is Method.DPO else None,
        method=method,
    )


def peak_rate(base_rate: float, chosen: ResolvedHyperparameters) -> float:
    """The peak learning rate of a run, from the base model's own: for DPO a tenth of it, times the multiplier."""
    method_rate = base_rate * DPO_RATE if chosen.method is Method.DPO else base_rate
    return method_rate * chosen.learning_rate_multiplier


def auto_batch_size(n_examples: int) -> int:
    """BATCH_SHARE of the square root of the number of examples, as the nearest power of two, from 2 to 32."""
    exponent = round(math.log2(max(math.sqrt(n_examples) * BATCH_SHARE, 1)))
    return min(max(1 << exponent, 2), 32)


def auto_epochs(n_examples: int, batch_size: int) -> int:
    """Three epochs; two above 10,000 examples, one above 100,000.

    Below FEW_EXAMPLES as many as give FEW_EXAMPLES_STEPS steps, at most FEW_EXAMPLES_MAX_EPOCHS: they are learned by
    heart.
    """
    if n_examples > 100_000:
        return 1
    if n_examples > 10_000:
        return 2
    if n_examples >= FEW_EXAMPLES:
        return AUTO_EPOCHS
    steps_per_epoch = math.ceil(n_examples / batch_size)
    return min(math.ceil(FEW_EXAMPLES_STEPS / steps_per_epoch), FEW_EXAMPLES_MAX_EPOCHS)


def _out_of_range(name: str, value: float, wanted: str) -> InvalidRequest:
    """The caller's 400 for a hyperparameter."""
    return InvalidRequest(
        "invalid_hyperparameter",
        f'{name} is {value}; it must be {wanted}, or "auto" to let the service choose.',
        param=f"hyperparameters.{name}",
    )
