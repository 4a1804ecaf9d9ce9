"""A new fine-tuning job: the request checked, the job and its first events written."""

import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from luthier.core import ids
from luthier.core.errors import Forbidden, InvalidRequest
from luthier.core.models import Event, Job
from luthier.core.states import EventCode, JobStatus, Method, SinkName
from luthier.core.training import hyperparameters
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.core.training.recipe import EMPTY_RECIPE, Recipe
from luthier.service.context import Context
from luthier.service.files import files
from luthier.service.jobs import job_events, job_recipes, train_specs
from luthier.service.models import model_kinds, models
from luthier.service.tenants import quotas
from luthier.store.db import Connection
from luthier.store.queries import events, jobs
from luthier.store.queries import files as file_rows
from luthier.store.queries.delivery import sink_cursors

logger = logging.getLogger(__name__)

_SUFFIX = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A request for fine-tuning as its dialect has read it. `training_file` and `validation_file` are ids of files.

    `max_suffix` is the dialect's limit in characters, `early_stop_patience` is in epochs. Without a `seed` one is
    drawn; None elsewhere is "not sent". `extras` are only stored and shown.
    """

    model: str
    training_file: str
    validation_file: str | None
    hyperparameters: Hyperparameters
    method: Method
    method_sent: bool
    seed: int | None
    suffix: str | None
    max_suffix: int
    extras: Mapping[str, object]
    recipe: Recipe = EMPTY_RECIPE
    notes: tuple[str, ...] = ()
    """Sentences on fields of the request that have no effect, for the job's first events."""
    early_stop_patience: int | None = None


def create(context: Context, resource_id: str, request: JobRequest) -> Job:
    """Inserts the job, to be validated, and its first events; the supervisor does the rest.

    Raises InvalidRequest for what the caller must change, Forbidden for a model that is only shared, and QuotaExceeded.
    """
    requested = job_recipes.merge_hyperparameters(request.hyperparameters, request.recipe)
    check_suffix(request.suffix, request.max_suffix)
    hyperparameters.check_seed(request.seed)
    hyperparameters.check_early_stopping(request.early_stop_patience, request.validation_file is not None)
    with context.database.writing() as tx:
        model = tunable(context, tx, resource_id, request.model)
        model, recipe = job_recipes.fit_to_model(context, model, request.recipe)
        base = train_specs.apply_recipe(model.base, context.base_folder(model.base.name), recipe)
        train_specs.check_method(base, request.method)
        _check_file(context, tx, resource_id, request.training_file, "training_file")
        _check_file(context, tx, resource_id, request.validation_file, "validation_file")
        job = Job(
            id=ids.job_id(context.new_hex()),
            resource_id=resource_id,
            status=JobStatus.VALIDATING_FILES,
            base_model=model.base.name,
            requested_model=request.model,
            parent_model=model.checkpoint.model if model.checkpoint else None,
            training_file=request.training_file,
            validation_file=request.validation_file,
            hyperparameters=requested,
            method=request.method,
            method_sent=request.method_sent,
            seed=request.seed if request.seed is not None else context.new_seed(),
            suffix=request.suffix or None,
            extras={**request.extras, **job_recipes.extras(recipe)},
            created_at=context.now(),
            early_stop_patience=request.early_stop_patience,
        )
        quotas.admit_job(tx, resource_id)
        jobs.insert_job(tx, job)
        sink_cursors.insert_missing(tx, job.id, context.tracking.sinks_of(job.extras))
        events.insert_events(tx, _first_events(context, job, model, request))
    logger.info("job created id=%s resource=%s base=%s", job.id, resource_id, job.base_model)
    return job


def tunable(context: Context, tx: Connection, resource_id: str, name: str) -> models.Model:
    """The model of that name. Raises InvalidRequest if there is none or its base weights are not here, and Forbidden if
    it is another resource's that is only shared with this one.
    """
    model = models.resolve(context, tx, resource_id, name)
    if model is None:
        tunable = [entry.name for entry in context.catalog.everything() if not entry.embeds]
        ready = ", ".join(filter(context.is_ready, tunable))
        raise InvalidRequest(
            "model_not_found",
            f"There is no model {name!r} to fine-tune. Base models ready on this machine: {ready or 'none yet'}; "
            "fine-tuned models and checkpoints of this resource can be tuned further. GET .../models lists all.",
            "model",
        )
    model_kinds.check_tunable(model.base)
    if not model.ready:
        raise InvalidRequest(
            "model_not_ready",
            f"The weights of {model.base.name} are not on this machine yet. Run: luthier models pull {model.base.name}",
            "model",
        )
    if model.checkpoint is not None and model.checkpoint.resource_id != resource_id:
        raise Forbidden(
            "model_not_own",
            f"{name} is shared with this resource to be deployed and called, not to be tuned further.",
            "model",
        )
    return model


def _check_file(context: Context, tx: Connection, resource_id: str, file_id: str | None, param: str) -> None:
    """Raises InvalidRequest, naming `param`, for a file that is missing, expired or no training data; None passes."""
    if file_id is None:
        return
    file = file_rows.get(tx, resource_id, file_id, context.now())
    if file is None:
        error = files.not_found(file_id, param)
        raise InvalidRequest(error.code, f"{param}: {error.message}", param)
    files.check_trainable(file, param)


def check_suffix(suffix: str | None, max_characters: int) -> None:
    """Raises InvalidRequest for a suffix that cannot be part of a model's name; None and the empty one pass."""
    if not suffix:
        return
    if len(suffix) > max_characters:
        raise InvalidRequest(
            "suffix_too_long",
            f"suffix has {len(suffix)} characters; at most {max_characters} are allowed. Shorten it.",
            "suffix",
        )
    if not _SUFFIX.fullmatch(suffix):
        raise InvalidRequest(
            "invalid_suffix",
            "suffix may contain only letters, digits, '-' and '_': it becomes part of a model name.",
            "suffix",
        )


def _first_events(context: Context, job: Job, model: models.Model, request: JobRequest) -> list[Event]:
    """A new job's first events, not inserted: which weights it tunes, what is only stored, and the request's notes.

    The first keeps what the job's row loses once its files are checked: which values were left to the service.
    """
    base = model.base
    weights = {
        "requested_model": job.requested_model,
        "base_model": job.base_model,
        "parent_model": job.parent_model,
        "title": base.title,
        "parameters": base.parameters,
        "licence": base.licence,
        "is_alias": job.requested_model.lower() not in (job.base_model, base.rounded_from),
        "requested_hyperparameters": asdict(job.hyperparameters),
        "seed_sent": request.seed is not None,
    }
    first = [job_events.message(context, job.id, EventCode.WEIGHTS, weights)]
    if job.extras.get("integrations") and SinkName.WANDB not in context.tracking.names:
        first.append(job_events.message(context, job.id, EventCode.INTEGRATIONS_STORED))
    return first + [job_events.message(context, job.id, EventCode.NOTE, {"text": text}) for text in request.notes]
