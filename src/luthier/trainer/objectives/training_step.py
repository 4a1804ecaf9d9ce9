"""One optimizer step: a batch's gradients, clipped to norm 1, then AdamW at the step's learning rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luthier.core.errors import InvalidRequest
from luthier.run_directory.train_spec import TrainSpec
from luthier.trainer.model import optimizer_setup
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.objectives.objective import Figures, Objective
from luthier.trainer.ranks.rank_group import ALONE, RankGroup

CLIP_NORM = 1.0
_RANK_SEEDS = 1 << 52
"""Beyond the seeds of every step of every run."""


@dataclass(frozen=True, slots=True)
class TakenStep:
    """What a step has measured, as numbers on the CPU.

    `gradient_norm` is the 2-norm of the gradient of the batch's mean loss over all trained parameters, before it was
    clipped; None if it is not finite. `learning_rate` is the step's own.
    """

    figures: Figures
    learning_rate: float
    gradient_norm: float | None

    def fields(self) -> dict[str, float | None]:
        """Rate and norm as fields of Metrics."""
        return {"learning_rate": self.learning_rate, "gradient_norm": self.gradient_norm}


def take(
    model: TunedModel,
    optimizer: torch.optim.AdamW,
    training: Objective,
    indexes: Sequence[int],
    budget: int,
    spec: TrainSpec,
    step: int,
    n_steps: int,
    ranks: RankGroup = ALONE,
) -> TakenStep:
    """Takes the step, counted from 1, on the examples `indexes`, and changes the model's weights.

    Each of the `ranks` computes its share of the examples; the summed gradients, and with them the weights, are equal
    in all of them.

    Raises InvalidRequest (training_diverged), for the user, if the loss is NaN or infinite.
    """
    if spec.dropout > 0:
        # Dropout must not depend on how many steps this process has seen, and must differ between ranks.
        torch.manual_seed(spec.seed * 1_000_003 + step + ranks.rank * _RANK_SEEDS)
    pending = training.gradients(model, indexes, budget)
    parameters: list[Tensor] = list(model.parameters.values())
    if ranks.size > 1:
        ranks.sum_in_rank_order([_gradient_of(parameter) for parameter in parameters])
    norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)  # clipping computes it anyway
    learning_rate = optimizer_setup.rate(step, n_steps, spec)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    model.refresh()
    # Kept and zeroed: freeing and allocating gradients each step fragments the heap, 20 MB a step here.
    optimizer.zero_grad(set_to_none=False)
    # The only synchronisation with the device in a step. A diverged adapter is never saved: the run ends here.
    figures = pending.on_host().over_ranks(ranks)
    if not math.isfinite(figures.loss):
        raise InvalidRequest(
            "training_diverged",
            f"The loss of step {step} is no longer a number. Lower learning_rate_multiplier and start a new job.",
            param="hyperparameters.learning_rate_multiplier",
        )
    gradient_norm = norm.item()  # behind the synchronisation: nothing is left to wait for
    return TakenStep(figures, learning_rate, gradient_norm if math.isfinite(gradient_norm) else None)


def _gradient_of(parameter: Tensor) -> Tensor:
    """The parameter's gradient, which is made of zeros where this rank's share gave it none."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
