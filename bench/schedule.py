"""Luthier's default schedule of the learning rate, for the schedulers of other trainers."""

from pathlib import Path

from luthier.run_directory.train_spec import TrainSpec
from luthier.trainer.model import optimizer_setup

_DEFAULTS = TrainSpec(
    job_id="bench",
    base_model="any",
    base_folder=Path(),
    context_tokens=1,
    seed=0,
    n_epochs=1,
    batch_size=1,
    learning_rate=1.0,
    lora=None,
)


def factor(step: int, n_steps: int) -> float:
    """What the peak learning rate is multiplied by at a step, counted from 1; the last step's from there on."""
    return optimizer_setup.rate(min(step, n_steps), n_steps, _DEFAULTS)
