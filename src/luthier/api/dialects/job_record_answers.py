"""What belongs to a job as each dialect sends it: events, checkpoints, attempts."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from luthier.api.dialects.answer import Figures, RawEventData, Unix, one_of, unix, unix_or_none, unset_if_none
from luthier.api.dialects.status_words import AZURE_LEVEL, OPENAI_LEVEL
from luthier.core.models import Attempt, Checkpoint, Event
from luthier.core.raw_json import JsonText
from luthier.core.states import AttemptEnd, EventLevel, EventType
from luthier.service.jobs import job_events


class EventAnswer(Struct, kw_only=True):
    """Something that happened to a job: a message, or a step's metrics, whose figures are in `data`."""

    levels: ClassVar[Mapping[EventLevel, str]]

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: Unix
    level: str
    message: str
    type: EventType
    data: RawEventData | UnsetType = UNSET

    @classmethod
    def from_event(cls, event: Event) -> Self:
        """The event in the class's own words for its level. Raises ValueError, a fault of ours, for NaN in its data."""
        return cls(
            id=event.id,
            created_at=unix(event.created_at),
            level=cls.levels[event.level],
            message=event.message,
            type=event.type,
            data=UNSET if event.data is None else Raw(_data_text(event.data).encode()),
        )


class OpenAIEvent(EventAnswer, kw_only=True):
    """Something that happened to a job."""

    levels = OPENAI_LEVEL

    level: Annotated[str, one_of(OPENAI_LEVEL.values())]


class AzureEvent(EventAnswer, kw_only=True):
    """Something that happened to a job."""

    levels = AZURE_LEVEL

    level: Annotated[str, one_of(AZURE_LEVEL.values())]


class CheckpointAnswer(Struct, kw_only=True):
    """A model that can be deployed, saved after an epoch or when the job was paused, with the metrics at that step."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: Unix
    fine_tuned_model_checkpoint: Annotated[str, Meta(description="The name by which it is deployed.")]
    step_number: int
    metrics: Figures
    fine_tuning_job_id: str

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> Self:
        """The checkpoint, the same in every dialect."""
        return cls(
            id=checkpoint.id,
            created_at=unix(checkpoint.created_at),
            fine_tuned_model_checkpoint=checkpoint.model,
            step_number=checkpoint.step,
            # OpenAI's `metrics.step` is a number with a point, as in Azure's tutorial: "step": 100.0.
            metrics={"step": float(checkpoint.step), **checkpoint.metrics},
            fine_tuning_job_id=checkpoint.job_id,
        )


class OpenAIAttempt(Struct, kw_only=True):
    """One start of the trainer for a job, and how it ended (null while it runs): an extension of the API."""

    id: str
    object: Literal["fine_tuning.job.attempt"] = "fine_tuning.job.attempt"
    fine_tuning_job_id: str
    number: int
    started_at: Unix
    ended_at: Unix | None
    end: AttemptEnd | None
    message: str | None
    last_step: int

    @classmethod
    def from_attempt(cls, attempt: Attempt) -> Self:
        """The attempt; `message` is how it ended as a sentence, null like the other ends while it runs."""
        return cls(
            id=attempt.id,
            fine_tuning_job_id=attempt.job_id,
            number=attempt.number,
            started_at=unix(attempt.started_at),
            ended_at=unix_or_none(attempt.ended_at),
            end=attempt.end,
            message=_outcome(attempt),
            last_step=attempt.last_step,
        )


class AzureAttempt(Struct, kw_only=True):
    """One start of the trainer for a job, and how it ended (left out while it runs): an extension of the API."""

    id: str
    object: Literal["fine_tuning.job.attempt"] = "fine_tuning.job.attempt"
    fine_tuning_job_id: str
    number: int
    started_at: Unix
    ended_at: Unix | UnsetType = UNSET
    end: AttemptEnd | UnsetType = UNSET
    message: str | UnsetType = UNSET
    last_step: int

    @classmethod
    def from_attempt(cls, attempt: Attempt) -> Self:
        """The attempt; `message` is how it ended as a sentence, left out like the other ends while it runs."""
        return cls(
            id=attempt.id,
            fine_tuning_job_id=attempt.job_id,
            number=attempt.number,
            started_at=unix(attempt.started_at),
            ended_at=unset_if_none(unix_or_none(attempt.ended_at)),
            end=unset_if_none(attempt.end),
            message=unset_if_none(_outcome(attempt)),
            last_step=attempt.last_step,
        )


def _outcome(attempt: Attempt) -> str | None:
    """How the attempt ended, as a sentence; None while it runs."""
    return f"The trainer {job_events.outcome(attempt)}." if attempt.end else None


def _data_text(data: Mapping[str, Any]) -> str:
    """The data as JSON; stored text passes through unread. Raises ValueError for NaN and infinities."""
    if isinstance(data, JsonText) and "NaN" not in data.text and "Infinity" not in data.text:
        return data.text
    return json.dumps(dict(data), allow_nan=False, separators=(",", ":"))
