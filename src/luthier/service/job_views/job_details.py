"""Everything about one job that its page shows beside the curves: request, settings, progress, cost, actions."""

import json
import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from luthier.catalog import BaseModelEntry
from luthier.core.errors import LuthierError
from luthier.core.models import Attempt, Job, Principal
from luthier.core.states import EventCode, JobStatus
from luthier.core.training.hyperparameters import Hyperparameters, ResolvedHyperparameters
from luthier.core.training.recipe import Recipe
from luthier.run_directory.train_spec import LoraRecipe
from luthier.service.context import Context
from luthier.service.job_views import job_actions, job_settings
from luthier.service.job_views.job_actions import Possibility
from luthier.service.job_views.job_settings import Setting, SettingsBasis
from luthier.service.job_views.metric_columns import Columns
from luthier.service.jobs import job_recipes, jobs, train_specs
from luthier.service.models import models
from luthier.store.db import Connection
from luthier.store.queries import attempts, checkpoints, events

_RATE_ROWS = 21
"""Reported steps that the present speed is computed from."""
_ADAPTER_CONFIG = "adapter_config.json"
_MAX_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run is, and how fast it goes; None is not known. `tokens_per_second` and `seconds_per_step` are those
    of the last steps while it runs, of the whole run once it has succeeded; `seconds_left` only while it runs.
    """

    step: int
    n_steps: int | None
    epoch: int | None
    n_epochs: int | None
    trained_tokens: int | None
    total_tokens: int | None
    tokens_per_second: float | None
    seconds_per_step: float | None
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class JobDetails:
    """A job and what its page shows of it. `asked` are the hyperparameters as they were sent, None for a job of an
    older version; `estimate` the values of its ESTIMATED event; `price` is that of the tokens so far, None without one.
    """

    job: Job
    asked: Hyperparameters | None
    seed_sent: bool | None
    settings: list[Setting]
    progress: RunProgress
    estimate: Mapping[str, Any] | None
    price: float | None
    currency: str | None
    seconds: float | None
    peak_memory_bytes: int | None
    actions: dict[str, Possibility]


@dataclass(frozen=True, slots=True)
class _Records:
    """What the database has of a job: the data of its coded events, its last steps, its attempts."""

    weights: Mapping[str, Any]
    enqueued: Mapping[str, Any]
    training: Mapping[str, Any]
    computed: Mapping[str, Any]
    estimate: Mapping[str, Any] | None
    last: Columns
    newest_first: list[Attempt]


def read(context: Context, caller: Principal, job_id: str) -> JobDetails:
    """The details of a job of the caller's resource. Raises NotFound."""
    with context.database.reading() as tx:
        job = jobs.require(tx, caller.resource.id, job_id)
        records = _records(tx, job_id)
        actions = job_actions.possibilities(tx, caller, job, checkpoints.list_of_job(tx, job_id))
    asked, seed_sent = _asked(records.weights), records.weights.get("seed_sent")
    progress = _progress(job, records, context.now())
    tokens, price = job.trained_tokens or progress.trained_tokens, context.price
    return JobDetails(
        job=job,
        asked=asked,
        seed_sent=seed_sent,
        settings=job_settings.list_settings(_basis(context, job, asked, seed_sent, _n_examples(records))),
        progress=progress,
        estimate=records.estimate,
        price=None if price is None else price.cost(tokens or 0),
        currency=None if price is None else price.currency,
        seconds=records.computed.get("seconds"),
        peak_memory_bytes=records.computed.get("peak_memory_bytes"),
        actions=actions,
    )


def _records(tx: Connection, job_id: str) -> _Records:
    """What the database has of a job that the caller may read."""
    last = Columns()
    last.extend(events.newest_metrics(tx, job_id, _RATE_ROWS))
    return _Records(
        weights=events.data_of_first(tx, job_id, EventCode.WEIGHTS) or {},
        enqueued=events.data_of_first(tx, job_id, EventCode.ENQUEUED) or {},
        training=events.data_of_first(tx, job_id, EventCode.TRAINING) or {},
        computed=events.data_of_last(tx, job_id, EventCode.COMPUTED) or {},
        estimate=events.data_of_first(tx, job_id, EventCode.ESTIMATED),
        last=last,
        newest_first=attempts.list_of_job(tx, job_id),
    )


def _asked(weights: Mapping[str, Any]) -> Hyperparameters | None:
    """The hyperparameters as they were sent, from the job's first event; None if an older version wrote it."""
    requested = weights.get("requested_hyperparameters")
    return Hyperparameters(**requested) if isinstance(requested, Mapping) else None


def _n_examples(records: _Records) -> int | None:
    """How many examples the training file has, once it is checked."""
    number = records.enqueued.get("n_examples", records.training.get("n_examples"))
    return number if isinstance(number, int) else None


def _basis(
    context: Context, job: Job, asked: Hyperparameters | None, seed_sent: bool | None, n_examples: int | None
) -> SettingsBasis:
    """What the settings of a job follow from."""
    recipe = job_recipes.of_job(job)
    base = _base(context, job, recipe)
    return SettingsBasis(
        method=job.method,
        recipe=recipe,
        base=base,
        asked=asked,
        resolved=_resolved(job),
        n_examples=n_examples,
        seed=job.seed,
        seed_sent=seed_sent,
        patience=job.early_stop_patience,
        continues=job.parent_model is not None,
        parent=_parent_shape(context, job, base),
    )


def _base(context: Context, job: Job, recipe: Recipe) -> BaseModelEntry | None:
    """The catalog's entry of the job's base model with its recipe applied; None if that is no longer possible."""
    entry = context.catalog.find(job.base_model)
    try:
        return None if entry is None else train_specs.apply_recipe(entry, context.base_folder(entry.name), recipe)
    except LuthierError:  # the catalog has changed since
        return None


def _resolved(job: Job) -> ResolvedHyperparameters | None:
    """The job's hyperparameters, once all of them are numbers; None before its files are checked."""
    chosen = job.hyperparameters
    if job.status is JobStatus.VALIDATING_FILES or chosen.n_epochs is None or chosen.batch_size is None:
        return None
    multiplier = chosen.learning_rate_multiplier
    if multiplier is None:
        return None
    return ResolvedHyperparameters(chosen.n_epochs, chosen.batch_size, multiplier, chosen.beta, job.method)


def _parent_shape(context: Context, job: Job, base: BaseModelEntry | None) -> LoraRecipe | None:
    """The shape of the adapter that the job continues from; None for none, and if it was deleted since."""
    if job.parent_model is None or base is None or base.lora is None:
        return None
    try:
        parent = models.get(context, job.resource_id, job.parent_model).checkpoint
        if parent is None or _ADAPTER_CONFIG not in parent.files:
            return None
        chunks = context.blobs.open(models.blob_key(parent.id, _ADAPTER_CONFIG))
        return train_specs.adapter_shape(json.loads(b"".join(chunks)[:_MAX_CONFIG_BYTES]), base.lora)
    except (LuthierError, FileNotFoundError, ValueError):
        return None


def _progress(job: Job, records: _Records, now: datetime) -> RunProgress:
    """How far the run is."""
    training, computed = records.training, records.computed
    n_steps, n_epochs = training.get("n_steps"), job.hyperparameters.n_epochs
    attempt = records.newest_first[0] if records.newest_first else None
    step = attempt.last_step if attempt else 0
    trained = job.trained_tokens or _trained_tokens(records.last)
    rates = _rates(records.last, attempt)
    if computed and trained and step:
        rates = trained / computed["seconds"], computed["seconds"] / step
    is_running = job.status in (JobStatus.RUNNING, JobStatus.PAUSING)
    finish = job.estimated_finish if is_running else None
    n_tokens = training.get("n_tokens")
    return RunProgress(
        step=step,
        n_steps=n_steps,
        epoch=math.ceil(step / (n_steps / n_epochs)) if n_steps and n_epochs and step else None,
        n_epochs=n_epochs,
        trained_tokens=trained,
        total_tokens=n_tokens * n_epochs if n_tokens and n_epochs else None,
        tokens_per_second=rates[0],
        seconds_per_step=rates[1],
        seconds_left=None if finish is None else max(0.0, (finish - now).total_seconds()),
    )


def _rates(last: Columns, attempt: Attempt | None) -> tuple[float | None, float | None]:
    """Tokens per second and seconds per step over the last reported steps of the present attempt; None if too few."""
    start = math.inf if attempt is None else attempt.started_at.timestamp()
    first, newest = bisect_left(last.at, start), len(last) - 1
    if first >= newest:
        return None, None
    seconds, n_steps = last.at[newest] - last.at[first], last.step[newest] - last.step[first]
    if seconds <= 0 or n_steps <= 0:
        return None, None
    tokens = last.tokens[newest] - last.tokens[first]
    return None if math.isnan(tokens) else tokens / seconds, seconds / n_steps


def _trained_tokens(last: Columns) -> int | None:
    """The tokens trained on up to the last reported step; None without one, and where an older version wrote it."""
    return int(last.tokens[-1]) if len(last) and not math.isnan(last.tokens[-1]) else None
