"""Events of a job: every code has words, every value of the words is in the data, old rows stay readable."""

import string
from dataclasses import asdict
from datetime import UTC, datetime

import pytest

from luthier.core.models import Attempt
from luthier.core.states import AttemptEnd, EventCode, EventLevel, EventType
from luthier.service.context import Context
from luthier.service.files.training_estimate import RunEstimate
from luthier.service.jobs import job_events

ESTIMATE = RunEstimate(2, 4, 1.0, 30, 900, 300, 12.5, "by 3 earlier runs", 10**9, 0.25, "EUR")
WEIGHTS = {
    "requested_model": "gpt-4o",
    "base_model": "tiny",
    "parent_model": None,
    "title": "Tiny",
    "parameters": "1M",
    "licence": "MIT",
    "is_alias": True,
}
ADVICE = {"text": "Overfitting.", "prefer_epoch": 1, "prefer_model": "tiny.ft-1:ckpt-step-2"}
FAILING = {"sink": "mlflow", "error": "sink_timeout", "is_final": False, "text": "MLflow did not answer."}
RESTART = {"attempt": 2, "last_step": 3, "end": "killed", "signal": 9, "exit_status": None}
COMPUTED = {"trained_tokens": 200, "seconds": 5.04, "peak_memory_bytes": 1_234_000_000}
CASES = [
    (EventCode.WEIGHTS, WEIGHTS, "gpt-4o is an alias for tiny here: the weights are Tiny (1M parameters, MIT), not "),
    (EventCode.WEIGHTS, WEIGHTS | {"is_alias": False}, "Base model tiny: the weights are Tiny (1M parameters, MIT)."),
    (EventCode.WEIGHTS, WEIGHTS | {"parent_model": "tiny.ft-1"}, "Continuing from tiny.ft-1, which was tuned on Tiny"),
    (EventCode.INTEGRATIONS_STORED, {}, "The integrations are stored"),
    (
        EventCode.TRACKING_STARTED,
        {"sink": "mlflow", "place": "http://m/#/1"},
        "Metrics are sent to mlflow: http://m/#/1",
    ),
    (
        EventCode.TRACKING_FAILING,
        FAILING,
        "Metrics are not sent to mlflow now; the service tries on, and the job is not",
    ),
    (EventCode.TRACKING_FAILING, FAILING | {"is_final": True}, "Metrics are not sent to mlflow now; tried again after"),
    (EventCode.TRACKING_CAUGHT_UP, {"sink": "mlflow", "place": "p"}, "mlflow has all metrics up to now."),
    (EventCode.NOTE, {"text": "n_epochs is not used."}, "n_epochs is not used."),
    (
        EventCode.FILE_WARNING,
        {"param": "training_file", "file_id": "file-1", "where": "line 3", "problem": "secret", "text": "A key."},
        "training_file file-1, line 3: secret. A key.",
    ),
    (
        EventCode.MORE_FILE_WARNINGS,
        {"param": "training_file", "file_id": "file-1", "n_kinds": 2},
        "training_file file-1 has warnings of 2 more kinds.",
    ),
    (EventCode.ESTIMATED, asdict(ESTIMATE), "A job: 2 epochs in batches of 4, 30 steps, 900 tokens"),
    (EventCode.ENQUEUED, {}, "Job enqueued. Waiting for jobs ahead to complete."),
    (
        EventCode.NO_NODE,
        {"cpus": 2.0, "gpus": 1.0, "memory_bytes": 0, "labels": {}},
        "No node of this service has what the job needs: 2 CPUs, 1 GPU. It waits until one has.",
    ),
    (EventCode.STARTED, {}, "Job started."),
    (EventCode.TRAINER_MESSAGE, {"text": "Memory is short."}, "Memory is short."),
    (
        EventCode.TRAINING,
        {"n_examples": 10, "n_tokens": 900, "supervised_tokens": 300, "n_steps": 30},
        "Training on 10 examples: 900 tokens per epoch, 300 of them supervised, 30 steps.",
    ),
    (EventCode.ADVICE, ADVICE, "Overfitting. Prefer the checkpoint of epoch 1: tiny.ft-1:ckpt-step-2."),
    (EventCode.ADVICE, ADVICE | {"prefer_model": None}, "Overfitting. The best checkpoint so far, of epoch 1, is kept"),
    (EventCode.ADVICE, ADVICE | {"prefer_epoch": None, "prefer_model": None}, "Overfitting."),
    (EventCode.CHECKPOINT, {"step": 4, "epoch": 2}, "Checkpoint created at step 4, the end of epoch 2."),
    (EventCode.CHECKPOINT, {"step": 3, "epoch": None}, "Checkpoint created at step 3, where the job was paused."),
    (EventCode.RESTARTED, RESTART, "The trainer was killed (signal 9) after step 3; continuing from the last saved"),
    (EventCode.RESTARTED, RESTART | {"end": "paused"}, "Continuing where the job was paused, after step 3, attempt 2."),
    (
        EventCode.RESTARTED,
        RESTART | {"end": "service_stopped", "last_step": 0},
        "The service was stopped before the first step; starting again, attempt 2.",
    ),
    (EventCode.PAUSING, {}, "Pausing: the current step is finished and saved as a checkpoint."),
    (EventCode.PAUSED, {"last_step": 3}, "Job paused after step 3."),
    (EventCode.PAUSED, {"last_step": 0}, "Job paused before the first step."),
    (EventCode.RESUMED, {}, "Job resumed."),
    (
        EventCode.COMPUTED,
        COMPUTED,
        "Trained 200 tokens in 5 s, validation and checkpoints included; peak memory 1.2 GB",
    ),
    (EventCode.SUCCEEDED, {}, "Job succeeded."),
    (EventCode.EXAMPLE_LOSSES_FILE, {"file_id": "file-1"}, "Completed example losses file: file-1"),
    (EventCode.RESULTS_FILE, {"file_id": "file-2"}, "Completed results file: file-2"),
    (EventCode.BILLED_TOKENS, {"trained_tokens": 200}, "Training tokens billed: 200"),
    (EventCode.PRICE, {"price": 1234.5, "currency": "EUR"}, "Price of these tokens: 1,234.5000 EUR"),
    (EventCode.FAILED, {"error_code": "disk_full", "param": None, "text": "No room."}, "Job failed: No room."),
    (EventCode.CANCELLED, {}, "Job cancelled."),
    (EventCode.IMPORTED, {}, "Imported from a run of luthier train."),
]


@pytest.mark.parametrize(("code", "values", "beginning"), CASES)
def test_event_carries_its_code_and_values_and_is_worded_from_them(
    context: Context, code: EventCode, values: dict[str, object], beginning: str
) -> None:
    event = job_events.message(context, "ftjob-1", code, values)
    assert event.data == {"code": code, **values}
    assert (event.type, event.level) == (EventType.MESSAGE, EventLevel.INFO)
    assert event.message.startswith(beginning)
    assert not [name for _, name, _, _ in string.Formatter().parse(event.message) if name is not None]


def test_every_code_has_words() -> None:
    assert {code for code, _, _ in CASES} == set(EventCode)


def test_event_of_a_step_has_only_figures_as_data(context: Context) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    event = job_events.metrics(context, "ftjob-1", at, 3, {"train_loss": 1.5, "full_valid_loss": 2.0})
    assert (event.type, event.created_at, event.message) == (EventType.METRICS, at, "Step 3: training loss=1.5")
    assert event.data == {"step": 3, "train_loss": 1.5, "full_valid_loss": 2.0}


@pytest.mark.parametrize("end", list(AttemptEnd))
def test_every_end_of_an_attempt_has_words_with_and_without_a_known_process(end: AttemptEnd) -> None:
    attempt = Attempt("a", "ftjob-1", 1, datetime(2026, 1, 1, tzinfo=UTC), 3, end=end, error_code="disk_full")
    assert "None" not in job_events.outcome(attempt)
    assert job_events.outcome(attempt) != "is running"
    older = Attempt("a", "ftjob-1", 1, datetime(2026, 1, 1, tzinfo=UTC), 3, end=end, detail="was stored as words")
    assert job_events.outcome(older) == "was stored as words"
