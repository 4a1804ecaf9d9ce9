"""Imports a finished run of `luthier train` as a job with its checkpoints and its model.

Nothing is interpreted twice: the run's directory is copied to those of the supervisor, with a running job, and the
supervisor absorbs the trainer's events as it does after a restart.
"""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from luthier.atomic_io import disk_full_as_no_space, fsync_path, read_chunks
from luthier.catalog import BaseModelEntry
from luthier.core import ids
from luthier.core.errors import Conflict, InvalidRequest
from luthier.core.models import File, Job
from luthier.core.ports import Blob
from luthier.core.quotas import MAX_SUFFIX_CHARACTERS
from luthier.core.states import EventCode, FilePurpose, JobStatus, Tuning
from luthier.core.training import hyperparameters
from luthier.core.training.hyperparameters import Hyperparameters, ResolvedHyperparameters
from luthier.core.training.recipe import Recipe, Schedule
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Succeeded
from luthier.run_directory.train_spec import TrainSpec
from luthier.service.context import Context
from luthier.service.files import files
from luthier.service.jobs import job_events, job_recipes, train_specs
from luthier.service.jobs.job_creation import check_suffix
from luthier.service.tenants import quotas
from luthier.store.db import Connection
from luthier.store.queries import events, jobs
from luthier.store.queries import files as file_rows

logger = logging.getLogger(__name__)

_NOT_COPIED = shutil.ignore_patterns("resume", "tokens", "lock", "pause", "under_way", ".*.tmp")


def import_run(context: Context, resource_id: str, folder: Path, suffix: str | None = None) -> tuple[Job, str]:
    """Inserts the job of a finished run and its data files, and returns the job with the name of its model.

    The run directory is copied, its data files are stored as blobs; on any error both are removed again. The supervisor
    finishes the job within seconds, or at the next start. Raises InvalidRequest for a folder that is not a finished run
    on a base model of this installation, Conflict for one that was imported before, QuotaExceeded and NoSpace.
    """
    check_suffix(suffix, MAX_SUFFIX_CHARACTERS)
    run = RunDirectory(folder.absolute())
    spec = _finished_spec(run)
    base = _base(context, spec, run)
    with context.database.reading() as tx:
        _refuse_imported(tx, resource_id, spec.job_id, run)
    target = context.runs_folder / spec.job_id
    blobs: list[tuple[Path, Blob]] = []
    try:
        for path in (run.training, run.validation):
            if path.exists():
                key = files.blob_key(ids.file_id(context.new_hex()))
                blobs.append((path, context.blobs.put(key, read_chunks(path))))
        with disk_full_as_no_space(target):
            _copy(run.path, target)
        data_files = [
            files.make_file(context, resource_id, path.name, FilePurpose.FINE_TUNE, blob, None) for path, blob in blobs
        ]
        job = _job(context, resource_id, spec, base, data_files, suffix)
        with context.database.writing() as tx:
            _refuse_imported(tx, resource_id, job.id, run)
            _insert(context, tx, job, data_files)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        for _, blob in blobs:
            context.blobs.delete(blob.key)
        raise
    logger.info("run imported job=%s resource=%s", job.id, resource_id)
    return job, ids.fine_tuned_model(job.base_model, job.id, job.suffix)


def _finished_spec(run: RunDirectory) -> TrainSpec:
    """The spec of a run that has succeeded. Raises InvalidRequest for any other folder, or if a trainer holds it."""
    if not run.spec.is_file():
        raise InvalidRequest("not_a_run", f"{run.path} is not a run of `luthier train`: it has no {run.spec.name}.")
    try:
        spec = run.read_spec()
    except ValidationError as error:
        text = f"{run.spec} is not a spec of this version: train again with this one, or import there."
        raise InvalidRequest("other_version", text) from error
    last = None
    for event, _ in run.tail():
        last = event
    if not isinstance(last, Succeeded) or run.is_locked():
        raise InvalidRequest(
            "run_not_finished",
            f"The run in {run.path} has not finished. The command that started it resumes it: luthier train "
            f"... --out {run.path}",
        )
    return spec


def _base(context: Context, spec: TrainSpec, run: RunDirectory) -> BaseModelEntry:
    """The catalog entry of the run's base model. Raises InvalidRequest unless its weights are on this machine."""
    base = context.catalog.find(spec.base_model)
    if base is None or not context.is_ready(base.name):
        raise InvalidRequest(
            "model_not_ready",
            f"{run.path} was trained on {spec.base_model}, which is not on this machine. Run: luthier models pull "
            f"{spec.base_model}",
        )
    return base


def _refuse_imported(tx: Connection, resource_id: str, job_id: str, run: RunDirectory) -> None:
    """Raises Conflict if the resource has the job of this run already."""
    if jobs.exists(tx, resource_id, job_id):
        text = f"The run in {run.path} was imported before, as {job_id}. To import it again, delete that job first."
        raise Conflict("imported_before", text)


def _copy(source: Path, target: Path) -> None:
    """Replaces `target` by a copy of the run directory, without what only a running trainer needs."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=_NOT_COPIED)
    fsync_path(target.parent)


def _job(
    context: Context,
    resource_id: str,
    spec: TrainSpec,
    base: BaseModelEntry,
    data_files: list[File],
    suffix: str | None,
) -> Job:
    """The job of the run, not inserted: its id is the run's, so that its models have the names in its model cards.

    It is running, with a learning rate multiplier that gives the run's own rate.
    """
    own_rate = hyperparameters.peak_rate(
        base.learning_rate, ResolvedHyperparameters(spec.n_epochs, spec.batch_size, 1.0, spec.beta, spec.method)
    ) * (train_specs.FULL_SHARE_OF_RATE if spec.tuning is Tuning.FULL else 1.0)
    return Job(
        id=spec.job_id,
        resource_id=resource_id,
        status=JobStatus.RUNNING,
        base_model=base.name,
        requested_model=base.name,
        parent_model=None,
        training_file=data_files[0].id,
        validation_file=data_files[1].id if len(data_files) > 1 else None,
        hyperparameters=Hyperparameters(spec.n_epochs, spec.batch_size, spec.learning_rate / own_rate, spec.beta),
        method=spec.method,
        method_sent=False,
        seed=spec.seed,
        suffix=suffix or None,
        extras=job_recipes.extras(_recipe(spec, base)),
        created_at=context.now(),
        has_run=True,
        early_stop_patience=spec.early_stop_patience,
    )


def _recipe(spec: TrainSpec, base: BaseModelEntry) -> Recipe:
    """The settings in which the run differs from the base model's entry and from the defaults."""
    recipe = Recipe(
        full=True if spec.tuning is Tuning.FULL and base.tuning is Tuning.LORA else None,
        max_tokens=spec.context_tokens if spec.context_tokens != base.context_tokens else None,
        warmup=spec.warmup,
        schedule=None if spec.schedule is Schedule.LINEAR else spec.schedule,
        weight_decay=spec.weight_decay or None,
    )
    if spec.lora is None or spec.lora == base.lora:
        return recipe
    lora = spec.lora
    shape = replace(recipe, lora_rank=lora.rank, lora_alpha=lora.alpha, lora_targets=lora.targets)
    return replace(shape, lora_dropout=lora.dropout or None)


def _insert(context: Context, tx: Connection, job: Job, data_files: list[File]) -> None:
    """Inserts the data files, the job and its first event. Raises QuotaExceeded."""
    for file in data_files:
        quotas.admit_file(tx, job.resource_id, file.bytes)
        file_rows.insert_file(tx, file)
    quotas.admit_job(tx, job.resource_id)
    jobs.insert_job(tx, job)
    events.insert_events(tx, [job_events.message(context, job.id, EventCode.IMPORTED)])
