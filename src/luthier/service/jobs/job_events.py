"""Events of a job: values with a code, worded in one place. The text is stored with the values, as its user saw it.

They are made here and inserted by the callers. The wire shows `type`, `level` and `message` as every client knows them,
and the values as `data`.
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
        "The integrations are stored with the job and shown; nothing is sent to Weights & Biases: this service is not "
        "set up for it. `WandbLogger.sync` on your side reads this job's results and sends them."
    ),
    EventCode.TRACKING_STARTED: "Metrics are sent to {sink}: {place}",
    EventCode.TRACKING_CAUGHT_UP: "{sink} has all metrics up to now.",
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
    """An event of type message, not inserted, by default of now. `values` fill in the text of the code and are stored
    as data: no value carries text of the user's rows.
    """
    values = values or {}
    text = words(code, values)
    data = {"code": str(code), **values}
    return Event(ids.event_id(context.new_hex()), job_id, at or context.now(), level, EventType.MESSAGE, text, data)


def metrics(context: Context, job_id: str, at: datetime, step: int, figures: Mapping[str, float]) -> Event:
    """The event of a training step, not inserted; its data are only the metrics, by their names in charts. `figures`
    has at least `train_loss`.
    """
    data = {"step": step, **figures}
    text = f"Step {step}: training loss={figures['train_loss']!r}"
    return Event(ids.event_id(context.new_hex()), job_id, at, EventLevel.INFO, EventType.METRICS, text, data)


def words(code: EventCode, values: Mapping[str, Any]) -> str:
    """The English text of an event; the names of the values are part of the wire (docs/job-states.md)."""
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
        case EventCode.TRACKING_FAILING:
            more = "tried again after the service's next start" if values["is_final"] else "the service tries on"
            return (
                f"Metrics are not sent to {values['sink']} now; {more}, and the job is not affected. {values['text']}"
            )
        case EventCode.NO_NODE:
            return f"No node of this service has what the job needs: {_needs(values)}. It waits until one has."
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
    """How an attempt ended, in words that follow "The trainer"; "is running" if it has not.

    Rows of older versions have the words stored.
    """
    if attempt.detail is not None:
        return attempt.detail
    return _outcome(attempt.end, attempt.signal, attempt.exit_status, attempt.error_code)


def _outcome(end: AttemptEnd | None, signal: int | None, exit_status: int | None, error_code: str | None) -> str:
    """The words of an attempt's end; None for `end` is an attempt that runs, elsewhere a value that is not known."""
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
    """How far a run had come, as words for a sentence; step 0 is "before the first step"."""
    return f"after step {last_step}" if last_step else "before the first step"


def _needs(values: Mapping[str, Any]) -> str:
    """What a run needs of a node, in words."""
    amounts = [(values["cpus"], "CPU"), (values["gpus"], "GPU")]
    words = [f"{amount:g} {unit}{'' if amount == 1 else 's'}" for amount, unit in amounts if amount]
    if values["memory_bytes"]:
        words.append(f"{values['memory_bytes'] / 1e9:.1f} GB of memory")
    words += [f"{name} {value}" for name, value in sorted(values["labels"].items())]
    return ", ".join(words)


def _weights(values: Mapping[str, Any]) -> str:
    """The sentence that names a job's base weights: continued from a tuned model, called by name, or by an alias."""
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
    """The sentence, with a space before it, that recommends the best checkpoint so far; empty if there is none.

    It names the checkpoint as a model, unless the checkpoint becomes the fine-tuned model anyway.
    """
    if values["prefer_epoch"] is None:
        return ""
    if values["prefer_model"] is None:
        return f" The best checkpoint so far, of epoch {values['prefer_epoch']}, is kept for the fine-tuned model."
    return f" Prefer the checkpoint of epoch {values['prefer_epoch']}: {values['prefer_model']}."


def _restarted(values: Mapping[str, Any]) -> str:
    """The sentence about a further attempt: how the previous one ended, and whether it continues or starts again."""
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
