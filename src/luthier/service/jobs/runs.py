"""A job before and after its run: validate its files, claim it, write the run directory, pause, fail, clean up.

The supervisor calls it; `progress` has what happens while the trainer runs.
"""

import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from luthier.atomic_io import disk_full_as_no_space
from luthier.core.models import Event, Job, JobError
from luthier.core.states import AttemptEnd, EventCode, EventLevel, JobStatus
from luthier.core.training.hyperparameters import ResolvedHyperparameters
from luthier.core.training.rank_plan import ONE_RANK, RankPlan
from luthier.data.checks.validate import Report
from luthier.data.problems.problem import Severity
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.train_spec import TrainSpec
from luthier.service import shutdown
from luthier.service.context import Context
from luthier.service.files import data_check, data_reports, files, training_estimate
from luthier.service.files.data_check import Checked, Rules
from luthier.service.jobs import job_events, job_recipes, train_specs
from luthier.service.models import models, serving, whole_folders
from luthier.store.queries import attempts, checkpoints, events, jobs
from luthier.store.queries import files as file_rows
from luthier.store.queries.scheduling import queued_jobs

logger = logging.getLogger(__name__)

SHOWN_PROBLEMS = 10
SHOWN_KINDS = 5
COUNTED_BYTES = 16 * 1024 * 1024
"""Up to this size all tokens of a file are counted before its job is queued; beyond it only those of long rows."""


def validate_files(context: Context, job: Job, stopping: Callable[[], bool] = shutdown.never) -> None:
    """Checks both files; moves the job to queued with its hyperparameters as numbers, or to failed.

    Stores the report of each file, and the events of warnings and of the estimate. Raises Stopped within a file if the
    service stops; the job is then unchanged.
    """
    folder = context.base_folder(job.base_model)
    entry, recipe = context.catalog.find(job.base_model), job_recipes.of_job(job)
    base = None if entry is None else train_specs.apply_recipe(entry, folder, recipe)
    training: Checked | None = None
    warnings: list[Event] = []
    for param, file_id in (("training_file", job.training_file), ("validation_file", job.validation_file)):
        if file_id is None:
            continue
        with context.database.reading() as tx:
            file = file_rows.get(tx, job.resource_id, file_id, context.now())
        rules = Rules(job.method, base, folder, counts_all=file is not None and file.bytes <= COUNTED_BYTES)
        try:
            content = shutdown.until(stopping, context.blobs.open(files.blob_key(file_id)))
            if param == "training_file":
                checked = data_check.check_training(content, rules)
            else:
                checked = data_check.check_validation(content, rules, training)
        except FileNotFoundError:
            fail(context, job, JobError("file_not_found", f"{param}: {file_id} was deleted. Upload it again.", param))
            return
        data_reports.store(context, file_id, checked, rules)
        if not checked.report.valid:
            fail(context, job, _as_error(param, file_id, checked.report))
            return
        warnings += _warnings(context, job, param, file_id, checked.report)
        training = training or checked
    assert training is not None
    assert base is not None
    resolved = train_specs.resolve(base, job.hyperparameters, recipe, training.report.n_examples, job.method)
    run = training_estimate.estimate(training, rules, job.hyperparameters, context.data_folder, context.price)
    if run is not None:
        warnings.append(job_events.message(context, job.id, EventCode.ESTIMATED, asdict(run)))
    memory = None if run is None else run.peak_memory_bytes
    _enqueue(context, job, resolved, memory, training.report.n_examples, warnings)
    logger.info("job queued id=%s examples=%d", job.id, training.report.n_examples)


def _enqueue(
    context: Context,
    job: Job,
    resolved: ResolvedHyperparameters,
    peak_memory_bytes: int | None,
    n_examples: int,
    before: list[Event],
) -> None:
    """Moves the job to queued, with hyperparameters and events (`before` first); not if it was cancelled meanwhile."""
    with context.database.writing() as tx:
        if jobs.move(tx, job.id, [JobStatus.VALIDATING_FILES], JobStatus.QUEUED):
            jobs.set_resolved(tx, job.id, resolved, peak_memory_bytes)
            enqueued = job_events.message(context, job.id, EventCode.ENQUEUED, {"n_examples": n_examples})
            events.insert_events(tx, [*before, enqueued])


def claim(context: Context, job: Job) -> bool:
    """Moves a queued job to running, with an event at its first start; False if it was cancelled meanwhile."""
    with context.database.writing() as tx:
        if not jobs.move(tx, job.id, [JobStatus.QUEUED], JobStatus.RUNNING, has_run=True):
            return False
        queued_jobs.set_last_start(tx, job.resource_id, context.now())
        if not job.has_run:  # else it was paused, and the event of its next attempt says so
            events.insert_events(tx, [job_events.message(context, job.id, EventCode.STARTED)])
    logger.info("job started id=%s", job.id)
    return True


def write_directory(
    context: Context, job: Job, threads: int | None, save_interval_s: float, plan: RankPlan = ONE_RANK
) -> RunDirectory:
    """Writes the run directory (data, parent model, spec), which is there whole or not at all: a supervisor that was
    paused meanwhile may wake while the next one's trainer reads it. Of one that is there, the pause request is removed
    and the base model's folder brought up to date. `save_interval_s` is the seconds between two resume points.

    Raises FileNotFoundError and NotFound if a file or the parent model was deleted while the job waited, and NoSpace.
    """
    run = directory(context, job)
    if run.spec.exists():
        run.pause.unlink(missing_ok=True)
        _follow_base_model(run, context.base_folder(job.base_model))
        return run
    if run.path.exists() and not run.spec.exists():  # what is left of a run that cannot go on
        shutil.rmtree(run.path, ignore_errors=True)

    def fill(empty: Path) -> None:
        """Writes what the trainer needs, the spec last."""
        new = RunDirectory(empty)
        for target, file_id in ((new.training, job.training_file), (new.validation, job.validation_file)):
            if file_id is not None:
                with target.open("wb") as stream:
                    stream.writelines(context.blobs.open(files.blob_key(file_id)))
        if job.parent_model is not None:
            parent = models.get(context, job.resource_id, job.parent_model).checkpoint
            assert parent is not None
            serving.copy_files(context, parent, new.parent)
        new.write_spec(_spec(context, job, new, threads, save_interval_s, plan))

    with disk_full_as_no_space(run.path):
        whole_folders.make(context, run.path, fill)
    return run


def _follow_base_model(run: RunDirectory, base_folder: Path) -> None:
    """Rewrites the spec of a run that was restored from a backup, or whose models folder has moved: the base model is
    in another folder now. The run resumes all the same: the folder is no part of what it computes.
    """
    spec = run.read_spec()
    if spec.base_folder != base_folder:
        run.write_spec(spec.model_copy(update={"base_folder": base_folder}))


def ask_to_pause(context: Context, job: Job) -> None:
    """Creates the pause file in the run directory, which the trainer checks after each step. Idempotent; does nothing
    before the directory has its spec.
    """
    run = directory(context, job)
    if run.spec.exists():
        run.pause.touch()


def set_paused(context: Context, job: Job) -> None:
    """Moves a pausing job whose trainer has exited to paused, with an event: the machine is free for the next one."""
    with context.database.writing() as tx:
        if jobs.move(tx, job.id, [JobStatus.PAUSING], JobStatus.PAUSED, handle=None, estimated_finish=None):
            newest_first = attempts.list_of_job(tx, job.id)
            last_step = newest_first[0].last_step if newest_first else 0
            events.insert_events(tx, [job_events.message(context, job.id, EventCode.PAUSED, {"last_step": last_step})])
    logger.info("job paused id=%s", job.id)


def fail(context: Context, job: Job, error: JobError) -> None:
    """Moves a job to failed, with its attempt and an event that its user reads; not a paused or ended job."""
    with context.database.writing() as tx:
        sources = [JobStatus.VALIDATING_FILES, JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.PAUSING]
        if jobs.move(tx, job.id, sources, JobStatus.FAILED, finished_at=context.now(), error=error):
            attempts.close(tx, job.id, context.now(), AttemptEnd.FAILED, error_code=error.code)
            values = {"error_code": error.code, "param": error.param, "text": error.message}
            failed = job_events.message(context, job.id, EventCode.FAILED, values, level=EventLevel.ERROR)
            events.insert_events(tx, [failed])
    logger.info("job ended id=%s status=failed code=%s", job.id, error.code)


def remove_files(context: Context, job: Job) -> None:
    """Removes the run directory; of a failed run the trainer's log is kept."""
    run = directory(context, job)
    if job.status is not JobStatus.FAILED:
        shutil.rmtree(run.path, ignore_errors=True)
        return
    for path in run.path.iterdir() if run.path.exists() else ():
        if path != run.log:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def set_released(context: Context, job: Job) -> None:
    """Records that an ended job has neither process nor run directory.

    One that its user has deleted is removed now: its row, checkpoints that were stored since, and the trainer's log.
    """
    with context.database.writing() as tx:
        jobs.set_released(tx, job.id)
        if not jobs.is_hidden(tx, job.id):
            return
        late = checkpoints.list_of_job(tx, job.id)
        models.delete_rows(tx, job.resource_id, job.id, late)
        jobs.delete(tx, job.id)
    for checkpoint in late:  # stored between the deletion of the job and the end of its trainer
        models.delete_bytes(context, checkpoint)
    shutil.rmtree(directory(context, job).path, ignore_errors=True)


def directory(context: Context, job: Job) -> RunDirectory:
    return RunDirectory(context.runs_folder / job.id)


def _as_error(param: str, file_id: str, report: Report) -> JobError:
    """The problems of a file as one error: how many, and the first kinds with lines, path and fix."""
    errors = [group for group in report.groups if group.first.severity is Severity.ERROR]
    lines = data_check.summary_lines(errors, SHOWN_PROBLEMS, f": GET .../files/{file_id}/report lists them")
    text = f"{param} {file_id} cannot be used: {report.n_errors:,} problem(s):"
    return JobError(f"invalid_{param}", "\n".join([text, *lines]), param)


def _warnings(context: Context, job: Job, param: str, file_id: str, report: Report) -> list[Event]:
    """An event for each of the first kinds of warnings and one for the number of further kinds, not inserted: a job
    trains on such a file all the same.
    """
    kinds = [group for group in report.groups if group.first.severity is Severity.WARNING]
    file = {"param": param, "file_id": file_id}
    warnings = [
        job_events.message(
            context,
            job.id,
            EventCode.FILE_WARNING,
            {**file, "where": group.where, "problem": group.first.code, "text": group.first.sentence()},
            level=EventLevel.WARNING,
        )
        for group in kinds[:SHOWN_KINDS]
    ]
    if (n_kinds := len(kinds) - SHOWN_KINDS) > 0:
        values = {**file, "n_kinds": n_kinds}
        code, level = EventCode.MORE_FILE_WARNINGS, EventLevel.WARNING
        warnings.append(job_events.message(context, job.id, code, values, level=level))
    return warnings


def _spec(
    context: Context, job: Job, run: RunDirectory, threads: int | None, save_interval_s: float, plan: RankPlan
) -> TrainSpec:
    """The spec of a validated job; the adapter's shape is that of the parent, whose files were copied before."""
    entry, recipe = context.catalog.find(job.base_model), job_recipes.of_job(job)
    resolved = job.hyperparameters
    assert entry is not None
    base = train_specs.apply_recipe(entry, context.base_folder(job.base_model), recipe)
    if job.parent_model is not None and base.lora is not None:
        base = base.model_copy(update={"lora": train_specs.adapter_shape_of(run.parent, base.lora)})
    assert resolved.n_epochs is not None
    assert resolved.batch_size is not None
    assert resolved.learning_rate_multiplier is not None
    return train_specs.make_spec(
        base,
        context.base_folder(job.base_model),
        ResolvedHyperparameters(
            resolved.n_epochs, resolved.batch_size, resolved.learning_rate_multiplier, resolved.beta, job.method
        ),
        job_id=job.id,
        seed=job.seed,
        has_validation=job.validation_file is not None,
        threads=threads,
        recipe=recipe,
        parent_model=job.parent_model,
        save_interval_s=save_interval_s,
        early_stop_patience=job.early_stop_patience,
        plan=plan,
    )
