"""Events of a job: values with a code, worded in one place. The text is stored with the values, as its user saw it.

The wire shows `type`, `level` and `message` as every client knows them, and the values as `data`.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from luthier.core import ids
from luthier.core.models import Attempt, Event
from luthier.core.states import AttemptEnd, EventCode, EventLevel, EventType
from luthier.service.context import Context
from luthier.service.files import training_estimate
from luthier.service.files.training_estimate import RunEstimate

_TEXTS = {
    EventCode.INTEGRATIONS_STORED: (
        "The integrations are stored with the job and shown; nothing is sent to Weights & Biases from here. "
        "`WandbLogger.sync` on your side reads this job's results and sends them."
    ),
    EventCode.NOTE: "{text}",
    EventCode.FILE_WARNING: "{param} {file_id}, {where}: {problem}. {text}",
    EventCode.MORE_FILE_WARNINGS: "{param} {file_id} has warnings of {n_kinds} more kinds.",
    EventCode.ENQUEUED: "Job enqueued. Waiting for jobs ahead to complete.",
    EventCode.STARTED: "Job started.",
    EventCode.TRAINER_MESSAGE: "{text}",
    EventCode.TRAINING: (
        "Training on {n_examples} examples: {n_tokens} tokens per epoch, {supervised_tokens} of them supervised, "
        "{n_steps} steps."
    ),
    EventCode.PAUSING: "Pausing: the current step is finished and saved as a checkpoint.",
    EventCode.RESUMED: "Job resumed. Waiting for jobs ahead to complete.",
    EventCode.SUCCEEDED: "Job succeeded.",
    EventCode.EXAMPLE_LOSSES_FILE: "Completed example losses file: {file_id}",
    EventCode.RESULTS_FILE: "Completed results file: {file_id}",
    EventCode.BILLED_TOKENS: "Training tokens billed: {trained_tokens}",
    EventCode.PRICE: "Price of these tokens: {price:,.4f} {currency}",
    EventCode.FAILED: "Job failed: {text}",
    EventCode.CANCELLED: "Job cancelled.",
    EventCode.IMPORTED: "Imported from a run of luthier train.",
}


def message(
    context: Context,
    job_id: str,
    code: EventCode,
    values: Mapping[str, Any] | None = None,
    *,
    level: EventLevel = EventLevel.INFO,
    at: datetime | None = None,
) -> Event:
    """An event of type message, by default of now. No value carries text of the user's rows."""
    values = values or {}
    text = words(code, values)
    data = {"code": str(code), **values}
    return Event(ids.event_id(context.new_hex()), job_id, at or context.now(), level, EventType.MESSAGE, text, data)


def metrics(context: Context, job_id: str, at: datetime, step: int, figures: Mapping[str, float]) -> Event:
    """The event of a step; its data are only the metrics, by their names in charts."""
    data = {"step": step, **figures}
    text = f"Step {step}: training loss={figures['train_loss']!r}"
    return Event(ids.event_id(context.new_hex()), job_id, at, EventLevel.INFO, EventType.METRICS, text, data)


def words(code: EventCode, values: Mapping[str, Any]) -> str:
    """The text of an event; the names of the values are part of the wire (docs/job-states.md)."""
    match code:
        case EventCode.WEIGHTS:
            return _weights(values)
        case EventCode.ESTIMATED:
            return training_estimate.in_words(RunEstimate(**values))
        case EventCode.ADVICE:
            return f"{values['text']}{_preference(values)}"
        case EventCode.CHECKPOINT:
            epoch = values["epoch"]
            reason = "where the job was paused" if epoch is None else f"the end of epoch {epoch}"
            return f"Checkpoint created at step {values['step']}, {reason}."
        case EventCode.PAUSED:
            return f"Job paused {position(values['last_step'])}."
        case EventCode.RESTARTED:
            return _restarted(values)
        case EventCode.COMPUTED:
            return (
                f"Trained {values['trained_tokens']} tokens in {values['seconds']:.0f} s, validation and checkpoints "
                f"included; peak memory {values['peak_memory_bytes'] / 1e9:.1f} GB."
            )
        case _:
            return _TEXTS[code].format_map(values)


def outcome(attempt: Attempt) -> str:
    """How an attempt ended, in words that follow "The trainer"; rows of older versions have them stored."""
    if attempt.detail is not None:
        return attempt.detail
    return _outcome(attempt.end, attempt.signal, attempt.exit_status, attempt.error_code)


def _outcome(end: AttemptEnd | None, signal: int | None, exit_status: int | None, error_code: str | None) -> str:
    match end:
        case AttemptEnd.SUCCEEDED:
            return "finished"
        case AttemptEnd.FAILED:
            return f"failed: {error_code}"
        case AttemptEnd.CANCELLED:
            return "was stopped: the job was cancelled"
        case AttemptEnd.PAUSED:
            return "exited: the job was paused"
        case AttemptEnd.SERVICE_STOPPED:
            return "exited: the service was stopped"
        case AttemptEnd.STOPPED:
            return "exited after a signal asked it to"
        case AttemptEnd.KILLED:
            return "was killed" if signal is None else f"was killed (signal {signal})"
        case AttemptEnd.OUT_OF_MEMORY:
            return "ran out of memory"
        case AttemptEnd.DISK_FULL:
            return "ran out of disk space"
        case AttemptEnd.CRASHED if signal is not None:
            return f"crashed (signal {signal})"
        case AttemptEnd.CRASHED:
            return "crashed" if exit_status is None else f"exited with status {exit_status}"
        case AttemptEnd.VANISHED:
            return "was no longer running"
        case None:
            return "is running"


def position(last_step: int) -> str:
    """How far a run had come."""
    return f"after step {last_step}" if last_step else "before the first step"


def _weights(values: Mapping[str, Any]) -> str:
    weights = f"{values['title']} ({values['parameters']} parameters, {values['licence']})"
    if values["parent_model"] is not None:
        return f"Continuing from {values['parent_model']}, which was tuned on {weights}."
    if not values["is_alias"]:
        return f"Base model {values['base_model']}: the weights are {weights}."
    return (
        f"{values['requested_model']} is an alias for {values['base_model']} here: the weights are {weights}, not "
        "those of a hosted model."
    )


def _preference(values: Mapping[str, Any]) -> str:
    """The recommended checkpoint, by its deployable name unless it becomes the fine-tuned model."""
    if values["prefer_epoch"] is None:
        return ""
    if values["prefer_model"] is None:
        return f" The best checkpoint so far, of epoch {values['prefer_epoch']}, is kept for the fine-tuned model."
    return f" Prefer the checkpoint of epoch {values['prefer_epoch']}: {values['prefer_model']}."


def _restarted(values: Mapping[str, Any]) -> str:
    where, number = position(values["last_step"]), values["attempt"]
    match values["end"]:
        case AttemptEnd.PAUSED:
            return f"Continuing where the job was paused, {where}, attempt {number}."
        case AttemptEnd.SERVICE_STOPPED:
            what = f"The service was stopped {where}"
        case _:
            end = _outcome(values["end"], values["signal"], values["exit_status"], None)
            what = f"The trainer {end} {where}"
    start = "continuing from the last saved step" if values["last_step"] else "starting again"
    return f"{what}; {start}, attempt {number}."
