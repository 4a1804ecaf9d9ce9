"""The executor of commands that train without a service: it imports no server and no database."""

from luthier.core.training.executor_port import Executor
from luthier.executors.local import LocalExecutor
from luthier.settings import Settings

PATIENT_STOP_S = 600.0
"""A command that is interrupted waits so long for the trainer to finish its step and save."""


def patient_executor() -> Executor:
    """An executor that starts trainers as child processes, on the device of the settings, and gives one that is asked
    to stop PATIENT_STOP_S before it kills it.
    """
    return LocalExecutor(stop_grace_s=PATIENT_STOP_S, device=Settings().train_device)
