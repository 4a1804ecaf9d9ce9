"""Examples of answers, built by the answer types themselves from one file, its job and the job's records.

The OpenAPI document shows them; the values are invented, and nothing of them is in any database.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from luthier.api.dialects.dialects import DIALECTS, Dialect
from luthier.api.dialects.job_record_answers import CheckpointAnswer
from luthier.core.errors import InvalidRequest
from luthier.core.models import Attempt, Checkpoint, Event, File, Job
from luthier.core.states import AttemptEnd, EventLevel, EventType, FilePurpose, FileStatus, JobStatus, Method
from luthier.core.training.hyperparameters import Hyperparameters

_START = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
_END = _START + timedelta(minutes=4)
_JOB_HEX, _FILE_HEX, _RESULT_HEX = "4" * 32, "1" * 32, "2" * 32
_BASE = "smollm2-135m-instruct"
_METRICS = {"step": 20.0, "train_loss": 1.02, "train_mean_token_accuracy": 0.74}

_FILE = File(
    id=f"file-{_FILE_HEX}",
    resource_id="",
    filename="rows.jsonl",
    purpose=FilePurpose.FINE_TUNE,
    bytes=2048,
    sha256="",
    status=FileStatus.PROCESSED,
    status_details=None,
    created_at=_START,
)
JOB = Job(
    id=f"ftjob-{_JOB_HEX}",
    resource_id="",
    status=JobStatus.SUCCEEDED,
    base_model=_BASE,
    requested_model=_BASE,
    parent_model=None,
    training_file=_FILE.id,
    validation_file=None,
    hyperparameters=Hyperparameters(n_epochs=2, batch_size=1, learning_rate_multiplier=1.0),
    method=Method.SUPERVISED,
    method_sent=False,
    seed=105,
    suffix=None,
    extras={},
    created_at=_START,
    finished_at=_END,
    estimated_finish=_END,
    fine_tuned_model=f"{_BASE}.ft-{_JOB_HEX}",
    result_file=f"file-{_RESULT_HEX}",
    trained_tokens=1270,
)
EVENT = Event(
    id=f"ftevent-{_JOB_HEX}",
    job_id=JOB.id,
    created_at=_END,
    level=EventLevel.INFO,
    type=EventType.METRICS,
    message="Step 20: training loss=1.02",
    data=_METRICS,
)
_CHECKPOINT = Checkpoint(
    id=f"ftckpt-{_JOB_HEX}",
    resource_id="",
    job_id=JOB.id,
    model=f"{_BASE}.ft-{_JOB_HEX}",
    base_model=_BASE,
    step=20,
    metrics=_METRICS,
    files=(),
    created_at=_END,
)
_ATTEMPT = Attempt(
    id=f"ftattempt-{_JOB_HEX}",
    job_id=JOB.id,
    number=1,
    started_at=_START,
    last_step=20,
    ended_at=_END,
    end=AttemptEnd.SUCCEEDED,
)
REFUSED = InvalidRequest("missing_field", "training_file: this field is required.", "training_file")


def _of_dialect(dialect: Dialect) -> dict[type[Struct], Struct]:
    """The examples of a dialect's own answer types, by type."""
    return {
        dialect.file: dialect.file.from_file(_FILE),
        dialect.job: dialect.job.from_job(JOB),
        dialect.event: dialect.event.from_event(EVENT),
        dialect.attempt: dialect.attempt.from_attempt(_ATTEMPT),
    }


EXAMPLES: dict[type[Struct], Any] = {CheckpointAnswer: CheckpointAnswer.from_checkpoint(_CHECKPOINT)}
"""By answer type."""
for _dialect in DIALECTS:
    EXAMPLES |= _of_dialect(_dialect)
