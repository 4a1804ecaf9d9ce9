"""A batch as a value: requests in a file, answered into another file within a window of time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from luthier.core.states import BatchStatus

MAX_BATCH_BYTES = 200 * 1024 * 1024
MAX_BATCH_LINES = 50_000
"""OpenAI's limits of an input file (OpenAI API reference, "Create batch")."""


@dataclass(frozen=True, slots=True)
class BatchFault:
    """One fault of an input file, as its owner reads it; `line` counts from 1, None for the whole file."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class BatchCounts:
    """How many lines have an answer: `completed` with status 200, `failed` with any other; and their tokens."""

    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """One user's batch. `dialect` is the name of the dialect in which it was created: its lines are answered in it.

    `endpoint` is as the caller wrote it. `total` is 0 until the input file was checked, `model` the model of all lines,
    None if they name several. `faults` are why it has failed. Lines that are not answered at `expires_at` are errors.
    """

    id: str
    resource_id: str
    dialect: str
    endpoint: str
    input_file: str
    completion_window: str
    metadata: Mapping[str, str] | None
    output_expires_after_s: int | None
    status: BatchStatus
    created_at: datetime
    expires_at: datetime
    in_progress_at: datetime | None = None
    finalizing_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    expired_at: datetime | None = None
    cancelling_at: datetime | None = None
    cancelled_at: datetime | None = None
    model: str | None = None
    total: int = 0
    counts: BatchCounts = BatchCounts()
    output_file: str | None = None
    error_file: str | None = None
    faults: tuple[BatchFault, ...] = ()
