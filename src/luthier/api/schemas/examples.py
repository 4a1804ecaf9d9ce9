"""Example answers: made by the dialects themselves from one story of a file, a job and its model, so they stay true."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from luthier.api.dialects import Dialect
from luthier.core.errors import InvalidRequest
from luthier.core.hyperparameters import Hyperparameters
from luthier.core.models import Attempt, Checkpoint, Event, File, Job
from luthier.core.states import AttemptEnd, EventLevel, EventType, FilePurpose, FileStatus, JobStatus, Method

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
    detail="ended well",
)
_MADE: dict[str, Callable[[Dialect], dict[str, Any]]] = {
    "file": lambda dialect: dialect.file(_FILE),
    "job": lambda dialect: dialect.job(JOB),
    "event": lambda dialect: dialect.event(EVENT),
    "checkpoint": lambda dialect: dialect.checkpoint(_CHECKPOINT),
    "attempt": lambda dialect: dialect.attempt(_ATTEMPT),
}
NEW_JOB = {"model": _BASE, "training_file": _FILE.id, "hyperparameters": {"n_epochs": 2}, "seed": 105}
NEW_CHAT = {"model": "clippy", "messages": [{"role": "user", "content": "What is the largest planet?"}]}
NEW_DEPLOYMENT = {
    "sku": {"name": "Standard", "capacity": 1},
    "properties": {"model": {"format": "OpenAI", "name": JOB.fine_tuned_model, "version": "1"}},
}
REFUSED = InvalidRequest("missing_field", "training_file: this field is required.", "training_file")


def of(noun: str, dialect: Dialect) -> dict[str, Any] | None:
    """An example of the noun as the dialect says it; None where the story has none."""
    made = _MADE.get(noun)
    return None if made is None else made(dialect)
