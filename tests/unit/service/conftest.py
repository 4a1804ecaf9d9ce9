"""Jobs as a caller makes them, without a wire in between."""

from collections.abc import Callable

import pytest

import received
import rows
from fakes import BASE
from luthier.core.models import Job, Principal
from luthier.core.states import Method
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.service.context import Context
from luthier.service.files import files
from luthier.service.jobs import job_creation


@pytest.fixture
def create(context: Context, caller: Principal) -> Callable[..., Job]:
    def made(
        model: str = BASE,
        validation: bool = False,
        early_stop_patience: int | None = None,
        method: Method = Method.SUPERVISED,
    ) -> Job:
        blob = received.blob(context, [rows.good()])
        file = files.create(context, caller.resource.id, "rows.jsonl", "fine-tune", blob)
        request = job_creation.JobRequest(
            model=model,
            training_file=file.id,
            validation_file=file.id if validation else None,
            hyperparameters=Hyperparameters(n_epochs=2, batch_size=5),
            method=method,
            method_sent=False,
            seed=1,
            suffix=None,
            max_suffix=64,
            extras={},
            early_stop_patience=early_stop_patience,
        )
        return job_creation.create(context, caller.resource.id, request)

    return made
