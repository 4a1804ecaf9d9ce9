"""Batches as every dialect sends them: both vendors have the same object."""

from typing import Annotated, Literal, Self

from msgspec import Meta, Struct

from luthier.api.dialects.answer import Unix, unix, unix_or_none
from luthier.core.inference.batches import Batch, BatchCounts, BatchFault
from luthier.core.states import BatchStatus


class BatchErrorAnswer(Struct, kw_only=True):
    """One fault of an input file; `line` counts from 1, null for the whole file."""

    code: str
    message: str
    param: str | None
    line: int | None

    @classmethod
    def from_fault(cls, fault: BatchFault) -> Self:
        return cls(code=fault.code, message=fault.message, param=fault.param, line=fault.line)


class BatchErrorsAnswer(Struct, kw_only=True):
    """The faults of an input file."""

    object: Literal["list"] = "list"
    data: list[BatchErrorAnswer]


class RequestCounts(Struct, kw_only=True):
    """How many requests a batch has, and how many of them have an answer, by its status."""

    total: int
    completed: int
    failed: int


class InputTokensDetails(Struct, kw_only=True):
    """Of the tokens of prompts, those that were not computed again."""

    cached_tokens: int


class OutputTokensDetails(Struct, kw_only=True):
    """Models here do not reason: always 0."""

    reasoning_tokens: int = 0


class BatchUsageAnswer(Struct, kw_only=True):
    """The tokens of all requests that were answered."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int

    @classmethod
    def from_counts(cls, counts: BatchCounts) -> Self:
        return cls(
            input_tokens=counts.input_tokens,
            input_tokens_details=InputTokensDetails(cached_tokens=counts.cached_tokens),
            output_tokens=counts.output_tokens,
            output_tokens_details=OutputTokensDetails(),
            total_tokens=counts.input_tokens + counts.output_tokens,
        )


class BatchAnswer(Struct, kw_only=True):
    """Requests in a file, answered into a file."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: Annotated[str | None, Meta(description="The model of all requests; null if they name several.")]
    errors: BatchErrorsAnswer | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    created_at: Unix
    in_progress_at: Unix | None
    expires_at: Unix
    finalizing_at: Unix | None
    completed_at: Unix | None
    failed_at: Unix | None
    expired_at: Unix | None
    cancelling_at: Unix | None
    cancelled_at: Unix | None
    request_counts: RequestCounts
    usage: BatchUsageAnswer
    metadata: dict[str, str] | None

    @classmethod
    def from_batch(cls, batch: Batch) -> Self:
        """The batch; what it does not have yet is null."""
        faults = [BatchErrorAnswer.from_fault(fault) for fault in batch.faults]
        counts = batch.counts
        return cls(
            id=batch.id,
            endpoint=batch.endpoint,
            model=batch.model,
            errors=BatchErrorsAnswer(data=faults) if faults else None,
            input_file_id=batch.input_file,
            completion_window=batch.completion_window,
            status=batch.status,
            output_file_id=batch.output_file,
            error_file_id=batch.error_file,
            created_at=unix(batch.created_at),
            in_progress_at=unix_or_none(batch.in_progress_at),
            expires_at=unix(batch.expires_at),
            finalizing_at=unix_or_none(batch.finalizing_at),
            completed_at=unix_or_none(batch.completed_at),
            failed_at=unix_or_none(batch.failed_at),
            expired_at=unix_or_none(batch.expired_at),
            cancelling_at=unix_or_none(batch.cancelling_at),
            cancelled_at=unix_or_none(batch.cancelled_at),
            request_counts=RequestCounts(total=batch.total, completed=counts.completed, failed=counts.failed),
            usage=BatchUsageAnswer.from_counts(counts),
            metadata=None if batch.metadata is None else dict(batch.metadata),
        )
