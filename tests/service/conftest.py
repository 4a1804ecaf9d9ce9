"""Jobs as a caller makes them, without a wire in between."""

from collections.abc import Callable, Mapping

import pytest

import rows
from fakes import BASE
from luthier.core.hyperparameters import Hyperparameters
from luthier.core.models import Job, Principal
from luthier.core.states import Method
from luthier.service import files, jobs
from luthier.service.context import Context


@pytest.fixture
def create(context: Context, caller: Principal) -> Callable[..., Job]:
    def made(
        model: str = BASE,
        validation: bool = False,
        extras: Mapping[str, object] | None = None,
        method: Method = Method.SUPERVISED,
    ) -> Job:
        blob = files.receive(context, [rows.good()])
        file = files.create(context, caller.resource.id, "rows.jsonl", "fine-tune", blob)
        request = jobs.JobRequest(
            model=model,
            training_file=file.id,
            validation_file=file.id if validation else None,
            hyperparameters=Hyperparameters(n_epochs=2, batch_size=5),
            method=method,
            method_sent=False,
            seed=1,
            suffix=None,
            max_suffix=64,
            extras=extras or {},
        )
        return jobs.create(context, caller.resource.id, request)

    return made
