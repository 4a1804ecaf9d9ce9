"""The optimizer of a run, and the learning rate of each step: warm-up, then a schedule."""

import math
from collections.abc import Iterable
from typing import assert_never

import torch
from torch import Tensor

from luthier.core.training.recipe import Schedule
from luthier.run_directory.train_spec import TrainSpec

WARMUP_STEPS = 10
WARMUP_SHARE = 0.1
FINAL_RATE = 0.1


def optimizer(parameters: Iterable[Tensor], spec: TrainSpec) -> torch.optim.AdamW:
    """AdamW (betas 0.9 and 0.999), fused. Weight decay is for matrices: norms and biases have no reason to be small."""
    tuned = list(parameters)
    if not spec.weight_decay:
        return torch.optim.AdamW(tuned, lr=spec.learning_rate, weight_decay=0.0, fused=True)
    groups = [
        {"params": [one for one in tuned if one.dim() > 1], "weight_decay": spec.weight_decay},
        {"params": [one for one in tuned if one.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=spec.learning_rate, fused=True)


def rate(step: int, n_steps: int, spec: TrainSpec) -> float:
    """The learning rate of a step, counted from 1: rises to the peak over the warm-up, then follows the schedule.

    Linear and cosine end at a tenth of the peak.
    """
    warmup, peak = warmup_steps(n_steps, spec), spec.learning_rate
    if step <= warmup:
        return peak * step / warmup
    done = (step - warmup) / (n_steps - warmup)
    match spec.schedule:
        case Schedule.LINEAR:
            return peak * (1 - (1 - FINAL_RATE) * done)
        case Schedule.COSINE:
            return peak * (FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * done)) / 2)
        case Schedule.CONSTANT:
            return peak
        case _:
            assert_never(spec.schedule)


def warmup_steps(n_steps: int, spec: TrainSpec) -> int:
    """Over how many steps the rate rises: min(10, a tenth of the run) where the spec leaves it open; 0 for none."""
    if spec.warmup is None:
        return min(WARMUP_STEPS, max(1, round(n_steps * WARMUP_SHARE)))
    return min(n_steps, round(n_steps * spec.warmup) if spec.warmup < 1 else int(spec.warmup))


def words(spec: TrainSpec) -> str:
    """What of schedule, warm-up and weight decay is not the default, to follow the peak rate in a sentence."""
    parts = []
    if spec.schedule is not Schedule.LINEAR:
        parts.append(f", schedule {spec.schedule}")
    if spec.warmup is not None:
        of = f"{spec.warmup:.0%} of the steps" if 0 < spec.warmup < 1 else f"{int(spec.warmup)} steps"
        parts.append(f", warm-up {of}")
    if spec.weight_decay:
        parts.append(f", weight decay {spec.weight_decay:g}")
    return "".join(parts)
