"""A job before and after its run: validate its files, claim it, write the run directory, pause, fail, clear it."""

import logging
import shutil

from luthier.core import hyperparameters
from luthier.core.hyperparameters import ResolvedHyperparameters
from luthier.core.models import Event, Job, JobError
from luthier.core.states import AttemptEnd, EventLevel, JobStatus
from luthier.data import grouping
from luthier.data.problem import Severity
from luthier.data.validate import Report
from luthier.durable import room_for, sync_folder
from luthier.run_directory import RunDirectory, TrainSpec
from luthier.service import checks, estimates, files, models, reports, serving, specs
from luthier.service.checks import Checked, Rules
from luthier.service.context import Context
from luthier.service.jobs import early_stop_patience, message
from luthier.store import attempts, checkpoints, events, jobs
from luthier.store import files as file_rows

logger = logging.getLogger(__name__)

SHOWN_PROBLEMS = 10
SHOWN_KINDS = 5
COUNTED_BYTES = 16 * 1024 * 1024
"""Up to this size all tokens of a file are counted before its job is queued; of a larger one those of long rows."""


def validate_files(context: Context, job: Job) -> None:
    """Reads both files whole; moves the job to queued with its hyperparameters as numbers, or to failed."""
    base = context.catalog.find(job.base_model)
    folder = context.base_folder(job.base_model)
    training: Checked | None = None
    told: list[Event] = []
    for param, file_id in (("training_file", job.training_file), ("validation_file", job.validation_file)):
        if file_id is None:
            continue
        with context.database.reading() as tx:
            file = file_rows.get(tx, job.resource_id, file_id, context.now())
        rules = Rules(job.method, base, folder, counts_all=file is not None and file.bytes <= COUNTED_BYTES)
        try:
            content = context.blobs.open(files.blob_key(file_id))
            checked = (
                checks.check_training(content, rules)
                if param == "training_file"
                else checks.check_validation(content, rules, training)
            )
        except FileNotFoundError:
            fail(context, job, JobError("file_not_found", f"{param}: {file_id} was deleted. Upload it again.", param))
            return
        reports.keep(context, file_id, checked, rules)
        if not checked.report.valid:
            fail(context, job, _as_error(param, file_id, checked.report))
            return
        told += _warned(context, job, f"{param} {file_id}", checked.report)
        training = training or checked
    assert training is not None
    n_examples = training.report.n_examples
    resolved = hyperparameters.resolve(job.hyperparameters, n_examples, job.method)
    run = estimates.estimate(training, rules, job.hyperparameters, context.data_folder, context.price)
    if run is not None:
        told.append(message(context, job.id, estimates.in_words(run)))
    with context.database.writing() as tx:
        if jobs.move(tx, job.id, [JobStatus.VALIDATING_FILES], JobStatus.QUEUED):
            jobs.set_hyperparameters(tx, job.id, resolved)
            queued = message(context, job.id, "Job enqueued. Waiting for jobs ahead to complete.")
            events.insert_events(tx, [*told, queued])
    logger.info("job queued id=%s examples=%d", job.id, n_examples)


def claim(context: Context, job: Job) -> bool:
    """Takes a queued job for running; False if it was cancelled meanwhile."""
    with context.database.writing() as tx:
        if not jobs.move(tx, job.id, [JobStatus.QUEUED], JobStatus.RUNNING, has_run=True):
            return False
        if not job.has_run:  # else it was paused, and its next attempt says that it goes on
            events.insert_events(tx, [message(context, job.id, "Job started.")])
    logger.info("job started id=%s", job.id)
    return True


def write_directory(context: Context, job: Job, threads: int | None, save_interval_s: float) -> RunDirectory:
    """Writes what the trainer is told, the spec last; of a directory that has its spec a wish to pause is taken away.

    Raises FileNotFoundError and NotFound when a file or the parent model was deleted while the job waited, and NoSpace.
    """
    run = directory(context, job)
    if run.spec.exists():
        run.pause.unlink(missing_ok=True)
        return run
    shutil.rmtree(run.path, ignore_errors=True)
    with room_for(run.path):
        run.path.mkdir(parents=True)
        for target, file_id in ((run.training, job.training_file), (run.validation, job.validation_file)):
            if file_id is not None:
                with target.open("wb") as stream:
                    stream.writelines(context.blobs.open(files.blob_key(file_id)))
        if job.parent_model is not None:
            parent = models.get(context, job.resource_id, job.parent_model).checkpoint
            assert parent is not None
            serving.bring(context, parent, run.parent)
        run.write_spec(_spec(context, job, threads, save_interval_s))
        sync_folder(run.path.parent)
    return run


def ask_to_pause(context: Context, job: Job) -> None:
    """Leaves the word in the run directory; the trainer looks for it after each step. Once more is no harm."""
    run = directory(context, job)
    if run.spec.exists():
        run.pause.touch()


def set_paused(context: Context, job: Job) -> None:
    """Moves a job whose trainer has left to paused: the machine is free for the next one."""
    with context.database.writing() as tx:
        if jobs.move(tx, job.id, [JobStatus.PAUSING], JobStatus.PAUSED, handle=None, estimated_finish=None):
            made = attempts.list_of_job(tx, job.id)
            text = f"Job paused after step {made[0].last_step}." if made else "Job paused before its first step."
            events.insert_events(tx, [message(context, job.id, text)])
    logger.info("job paused id=%s", job.id)


def fail(context: Context, job: Job, error: JobError) -> None:
    """Ends a job with an error that its user reads."""
    with context.database.writing() as tx:
        sources = [JobStatus.VALIDATING_FILES, JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.PAUSING]
        if jobs.move(tx, job.id, sources, JobStatus.FAILED, finished_at=context.now(), error=error):
            attempts.close(tx, job.id, context.now(), AttemptEnd.FAILED, f"gave up: {error.code}")
            text = f"Job failed: {error.message}"
            events.insert_events(tx, [message(context, job.id, text, EventLevel.ERROR)])
    logger.info("job ended id=%s status=failed code=%s", job.id, error.code)


def clear(context: Context, job: Job) -> None:
    """Removes the run directory, the user's rows first of all; of a failed run the trainer's log stays."""
    run = directory(context, job)
    if job.status is not JobStatus.FAILED:
        shutil.rmtree(run.path, ignore_errors=True)
        return
    for path in run.path.iterdir() if run.path.exists() else ():
        if path != run.log:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def release(context: Context, job: Job) -> None:
    """Notes that an ended job has neither process nor run directory left; of a deleted one the rest goes now."""
    with context.database.writing() as tx:
        jobs.set_released(tx, job.id)
        if not jobs.is_hidden(tx, job.id):
            return
        doomed = checkpoints.list_of_job(tx, job.id)
        models.delete_rows(tx, job.resource_id, job.id, doomed)
        jobs.delete(tx, job.id)
    for checkpoint in doomed:  # taken in between the wish to delete the job and the end of its trainer
        models.delete_bytes(context, checkpoint)
    shutil.rmtree(directory(context, job).path, ignore_errors=True)


def directory(context: Context, job: Job) -> RunDirectory:
    return RunDirectory(context.runs_folder / job.id)


def _as_error(param: str, file_id: str, report: Report) -> JobError:
    """The findings of a file as one error: how many, and the first ones with line, place and fix."""
    errors = [problem for problem in report.problems if problem.severity is Severity.ERROR]
    shown = [f"- {problem.sentence()}" for problem in errors[:SHOWN_PROBLEMS]]
    more = report.n_errors - len(shown)
    left = [f"and {more:,} more: GET .../files/{file_id}/report lists them."] if more else []
    text = f"{param} {file_id} cannot be used: {report.n_errors:,} problem(s):"
    return JobError(f"invalid_{param}", "\n".join([text, *shown, *left]), param)


def _warned(context: Context, job: Job, name: str, report: Report) -> list[Event]:
    """An event for each kind of warning, the first few of them: a job trains on such a file all the same."""
    kinds = [group for group in grouping.groups(report.problems) if group.first.severity is Severity.WARNING]
    texts = [f"{name}, {group.where}: {group.first.code}. {group.first.sentence()}" for group in kinds[:SHOWN_KINDS]]
    if len(kinds) > SHOWN_KINDS:
        texts.append(f"{name} has warnings of {len(kinds) - SHOWN_KINDS} more kinds.")
    return [message(context, job.id, text, EventLevel.WARNING) for text in texts]


def _spec(context: Context, job: Job, threads: int | None, save_interval_s: float) -> TrainSpec:
    base = context.catalog.find(job.base_model)
    asked = job.hyperparameters
    assert base is not None
    assert asked.n_epochs is not None
    assert asked.batch_size is not None
    assert asked.learning_rate_multiplier is not None
    return specs.make(
        base,
        context.base_folder(job.base_model),
        ResolvedHyperparameters(asked.n_epochs, asked.batch_size, asked.learning_rate_multiplier, asked.beta),
        job_id=job.id,
        seed=job.seed,
        has_validation=job.validation_file is not None,
        threads=threads,
        parent_model=job.parent_model,
        save_interval_s=save_interval_s,
        early_stop_patience=early_stop_patience(job),
    )
