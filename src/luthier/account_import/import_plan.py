"""The plan of an import: every file and job of the source, with what is done or the reason why not.

Pure: it reads and writes nothing. The command prints the plan, and importer.py carries it out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luthier.account_import import destination, source_records
from luthier.account_import.destination import Inventory
from luthier.account_import.import_state import ImportedFile, State
from luthier.account_import.source_records import SourceFile, SourceJob
from luthier.core.errors import InvalidRequest
from luthier.core.quotas import MAX_METADATA_PAIRS, MAX_METADATA_VALUE_CHARACTERS, MAX_SUFFIX_CHARACTERS
from luthier.core.training.hyperparameters import MAX_SEED

FINE_TUNE = "fine-tune"
GONE = "deleted there"


@dataclass(frozen=True, slots=True)
class Account:
    """What the source has: files by id. `missing` are ids of deleted files that jobs name."""

    files: Mapping[str, SourceFile]
    missing: frozenset[str]
    jobs: Sequence[SourceJob]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Options of the import. `recreate`: train all succeeded jobs again; `only`: the ids of those to train again.

    With `only` just their files are imported. `models` maps models of the source to base models of the target; `model`
    is for those that it does not name.
    """

    recreate: bool = False
    only: frozenset[str] = frozenset()
    models: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None


@dataclass(frozen=True, slots=True)
class FilePlan:
    """What is done with a source file: it is imported unless `target_id` (it was) or `reason` (it cannot be) is set."""

    file: SourceFile
    target_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class JobPlan:
    """What is done with a source job. `archive`: its folder is written anew.

    `model`: train again on it; `target_id`: was trained already; `reason`: cannot be; all None: not asked for. `notes`
    say what will differ from the source's job.
    """

    job: SourceJob
    archive: bool
    model: str | None = None
    target_id: str | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All files and jobs that the options select, in the source's order, and what is done with each."""

    files: tuple[FilePlan, ...]
    jobs: tuple[JobPlan, ...]

    @property
    def files_to_import(self) -> list[FilePlan]:
        return [plan for plan in self.files if plan.target_id is None and plan.reason is None]

    @property
    def jobs_to_archive(self) -> list[JobPlan]:
        return [plan for plan in self.jobs if plan.archive]

    @property
    def jobs_to_create(self) -> list[JobPlan]:
        """Oldest first, as they were created."""
        return sorted((plan for plan in self.jobs if plan.model), key=lambda plan: plan.job.created_at)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to import; the state file may still have to be written."""
        return not (self.files_to_import or self.jobs_to_archive or self.jobs_to_create)


def make_plan(
    account: Account, inventory: Inventory, state: State, options: ImportOptions, archived: Mapping[str, str]
) -> Plan:
    """The plan. `archived` is the status of each archived job when its folder was written.

    Raises InvalidRequest for a job that the source does not have, or a model that the target does not have.
    """
    _check_models(options, inventory)
    jobs = _selected(account.jobs, options.only)
    named = {name for job in jobs for name in job.files}
    files = tuple(
        _file_plan(file, inventory, state)
        for file in account.files.values()
        if file.id in named or (file.purpose == FINE_TUNE and not options.only)
    )
    lost = sorted(name for name in named if name in account.missing)
    files += tuple(FilePlan(SourceFile(name, name, -1, FINE_TUNE, "deleted"), reason=GONE) for name in lost)
    reasons = {plan.file.id: plan.reason for plan in files if plan.reason}
    return Plan(files, tuple(_job_plan(job, reasons, inventory, state, options, archived) for job in jobs))


def job_body(
    job: SourceJob, model: str, training_file: str, source: str, files: Mapping[str, ImportedFile]
) -> dict[str, Any]:
    """The request body that trains a job again: its parameters, and its origin as metadata.

    `files` are the imported ones by their source id; a validation file that was not imported is left out. The metadata
    fit the target's limits: our three entries, and the source's as far as there is room.
    """
    request: dict[str, Any] = {"model": model, "training_file": training_file}
    if job.validation_file and job.validation_file in files:
        request["validation_file"] = files[job.validation_file].id
    if job.has_method:
        request["method"] = {"type": job.method, job.method: {"hyperparameters": dict(job.hyperparameters)}}
    elif job.hyperparameters:
        request["hyperparameters"] = dict(job.hyperparameters)
    if job.seed is not None and 0 <= job.seed <= MAX_SEED:
        request["seed"] = job.seed
    if suffix := _suffix(job.suffix):
        request["suffix"] = suffix
    origin = {
        destination.SOURCE: source,
        destination.SOURCE_JOB: job.id,
        destination.SOURCE_MODEL: job.fine_tuned_model,
    }
    ours = {name: value[:MAX_METADATA_VALUE_CHARACTERS] for name, value in origin.items() if value}
    theirs = [(name, value) for name, value in job.metadata.items() if name not in origin]
    request["metadata"] = dict(theirs[: MAX_METADATA_PAIRS - len(ours)]) | ours
    return request


def _check_models(options: ImportOptions, inventory: Inventory) -> None:
    """Raises InvalidRequest for a model among the options that the target does not have ready."""
    for name in (*options.models.values(), *([options.model] if options.model else [])):
        if name.lower() not in inventory.models:
            raise InvalidRequest(
                "model_not_here",
                f"There is no model {name!r} here that is ready. `luthier models list` shows those that are, "
                "`luthier models pull NAME` downloads a base model.",
                "model",
            )


def _selected(jobs: Sequence[SourceJob], only: frozenset[str]) -> list[SourceJob]:
    """The jobs that `only` names, all if it is empty. Raises InvalidRequest for an id that the source does not have."""
    unknown = only - {job.id for job in jobs}
    if unknown:
        raise InvalidRequest("job_not_at_source", f"The account has no job {', '.join(sorted(unknown))}.", "job")
    return [job for job in jobs if not only or job.id in only]


def _file_plan(file: SourceFile, inventory: Inventory, state: State) -> FilePlan:
    """Whether the file is there already (state and target agree), cannot be imported, or is to be imported."""
    imported = state.files.get(file.id)
    if imported is not None and imported.id in inventory.files:
        return FilePlan(file, target_id=imported.id)
    if file.status in ("error", "deleted", "deleting"):
        return FilePlan(file, reason=GONE if file.status != "error" else "refused there as no training file")
    if file.bytes == 0:
        return FilePlan(file, reason="empty")
    return FilePlan(file)


def _job_plan(
    job: SourceJob,
    lost: Mapping[str, str],
    inventory: Inventory,
    state: State,
    options: ImportOptions,
    archived: Mapping[str, str],
) -> JobPlan:
    """Whether a job is archived, and whether it is trained again, was already, or cannot be; `lost`: reason by file.

    An archive is written again while the job may still change at the source.
    """
    archive = archived.get(job.id) != job.status or job.status not in source_records.ENDED
    existing = inventory.jobs.get(job.id)
    target_id = existing.id if existing else state.jobs.get(job.id)
    wanted = job.id in options.only or (options.recreate and job.status == source_records.SUCCEEDED)
    if target_id or not wanted:
        return JobPlan(job, archive, target_id=target_id)
    reason = _refusal(job, lost, state)
    if reason is not None:
        return JobPlan(job, archive, reason=reason)
    model = _model(job, inventory, options)
    if model is None:
        return JobPlan(job, archive, reason=_no_model_reason(job))
    return JobPlan(job, archive, model=model, notes=tuple(_notes(job, lost)))


def _refusal(job: SourceJob, lost: Mapping[str, str], state: State) -> str | None:
    """Why a job cannot be trained here, as the end of a sentence; None if it can."""
    if job.method not in source_records.METHODS:
        return f"its method {job.method} cannot be trained here yet"
    if job.training_file is None:
        return "the source names no training file for it"
    if job.training_file in lost:
        return f"its training file {job.training_file} cannot be imported: {lost[job.training_file]}"
    return image_refusal(job, state.files)


def image_refusal(job: SourceJob, files: Mapping[str, ImportedFile]) -> str | None:
    """Why a job with images in its rows is skipped; None if no file of it is known to have any.

    That is known of downloaded files only.
    """
    for name in job.files:
        if name in files and files[name].has_images:
            return f"rows of {name} hold images, which cannot be trained on here yet"
    return None


def _model(job: SourceJob, inventory: Inventory, options: ImportOptions) -> str | None:
    """The target's model to train in place of the job's own; None if there is none, or not yet."""
    if chosen := options.models.get(job.model):
        return inventory.models[chosen.lower()]
    if _is_fine_tuned(job.model):
        return inventory.model_of(job.model)
    return inventory.models.get((options.model or job.model).lower())


def _no_model_reason(job: SourceJob) -> str:
    """The reason of a job without a model to train, with the option that would name one."""
    if _is_fine_tuned(job.model):
        return (
            f"it continues from {job.model}: train the job of that model again, and run this command again once it has "
            f"succeeded here; or name a model here by --map {job.model}=NAME"
        )
    return f"no base model here for {job.model}: name one by --map {job.model}=NAME or --model NAME"


def _is_fine_tuned(model: str) -> bool:
    """Whether a vendor gives such a name to fine-tuned models."""
    return model.startswith("ft:") or ".ft-" in model


def _notes(job: SourceJob, lost: Mapping[str, str]) -> list[str]:
    """What the trained job will not have as the source's has it: validation file, suffix, seed; mostly empty."""
    notes = []
    if job.validation_file and job.validation_file in lost:
        notes.append(f"without its validation file {job.validation_file}: {lost[job.validation_file]}")
    if job.suffix and _suffix(job.suffix) != job.suffix:
        notes.append(f"suffix {job.suffix!r} becomes {_suffix(job.suffix)!r}")
    if job.seed is not None and not 0 <= job.seed <= MAX_SEED:
        notes.append(f"with another seed than {job.seed}")
    return notes


def _suffix(suffix: str | None) -> str:
    """The suffix with the characters and the length that model names may have; empty for None."""
    valid = (letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "-" for letter in suffix or "")
    return "".join(valid)[:MAX_SUFFIX_CHARACTERS]
