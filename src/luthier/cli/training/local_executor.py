"""The executor of commands that train without a service: it imports no server and no database."""

from luthier.core.ports import Executor
from luthier.executors.local import LocalExecutor
from luthier.settings import Settings

PATIENT_STOP_S = 600.0
"""A command that is interrupted waits so long for the trainer to finish its step and save."""


def patient_executor() -> Executor:
    return LocalExecutor(stop_grace_s=PATIENT_STOP_S, device=Settings().train_device)
