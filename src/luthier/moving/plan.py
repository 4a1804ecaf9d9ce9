"""What a move will do: every file and job of the source with what becomes of it, and why not where it does not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luthier.core.errors import InvalidRequest
from luthier.moving import here, records
from luthier.moving.here import Inventory
from luthier.moving.records import SourceFile, SourceJob
from luthier.moving.state import BroughtFile, State

FINE_TUNE = "fine-tune"
MAX_METADATA_PAIRS = 16
MAX_METADATA_CHARACTERS = 512
MAX_SUFFIX_CHARACTERS = 64
MAX_SEED = 2**31 - 1
GONE = "deleted there"


@dataclass(frozen=True, slots=True)
class Account:
    """What the source has. `missing` are ids of files that jobs name and that are no more."""

    files: Mapping[str, SourceFile]
    missing: frozenset[str]
    jobs: Sequence[SourceJob]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the person asked for. `only` names jobs: these are re-created, and nothing else is brought.

    `models` maps names of models there to names here; `model` is for base models that it does not name.
    """

    recreate: bool = False
    only: frozenset[str] = frozenset()
    models: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None


@dataclass(frozen=True, slots=True)
class FilePlan:
    """`here` is its id where it was brought already; `reason` says why it cannot be."""

    file: SourceFile
    here: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class JobPlan:
    """`archive`: its folder is still to be written. `model`: re-create it on this one; `here`: it was; `reason`: not.

    `notes` say what will differ from the job there.
    """

    job: SourceJob
    archive: bool
    model: str | None = None
    here: str | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    files: tuple[FilePlan, ...]
    jobs: tuple[JobPlan, ...]

    @property
    def files_to_bring(self) -> list[FilePlan]:
        return [plan for plan in self.files if plan.here is None and plan.reason is None]

    @property
    def jobs_to_archive(self) -> list[JobPlan]:
        return [plan for plan in self.jobs if plan.archive]

    @property
    def jobs_to_create(self) -> list[JobPlan]:
        """Oldest first, as they were made."""
        return sorted((plan for plan in self.jobs if plan.model), key=lambda plan: plan.job.created_at)

    @property
    def is_empty(self) -> bool:
        return not (self.files_to_bring or self.jobs_to_archive or self.jobs_to_create)


def make(account: Account, inventory: Inventory, state: State, wishes: Wishes, archived: Mapping[str, str]) -> Plan:
    """The plan. `archived` maps jobs with a folder to the status they had when it was written.

    Raises InvalidRequest where a job is asked for that the source does not have, or a model that is not here.
    """
    _check_models(wishes, inventory)
    jobs = _chosen(account.jobs, wishes.only)
    named = {name for job in jobs for name in job.files}
    files = tuple(
        _file_plan(file, inventory, state)
        for file in account.files.values()
        if file.id in named or (file.purpose == FINE_TUNE and not wishes.only)
    )
    lost = sorted(name for name in named if name in account.missing)
    files += tuple(FilePlan(SourceFile(name, name, -1, FINE_TUNE, "deleted"), reason=GONE) for name in lost)
    reasons = {plan.file.id: plan.reason for plan in files if plan.reason}
    return Plan(files, tuple(_job_plan(job, reasons, inventory, state, wishes, archived) for job in jobs))


def body(
    job: SourceJob, model: str, training_file: str, source: str, files: Mapping[str, BroughtFile]
) -> dict[str, Any]:
    """What a job is re-created with: the parameters that it had there, and where it comes from as metadata."""
    asked: dict[str, Any] = {"model": model, "training_file": training_file}
    if job.validation_file and job.validation_file in files:
        asked["validation_file"] = files[job.validation_file].id
    if job.method_told:
        asked["method"] = {"type": job.method, job.method: {"hyperparameters": dict(job.hyperparameters)}}
    elif job.hyperparameters:
        asked["hyperparameters"] = dict(job.hyperparameters)
    if job.seed is not None and 0 <= job.seed <= MAX_SEED:
        asked["seed"] = job.seed
    if suffix := _suffix(job.suffix):
        asked["suffix"] = suffix
    origin = {here.SOURCE: source, here.SOURCE_JOB: job.id, here.SOURCE_MODEL: job.tuned_model}
    ours = {name: value[:MAX_METADATA_CHARACTERS] for name, value in origin.items() if value}
    theirs = [(name, value) for name, value in job.metadata.items() if name not in origin]
    asked["metadata"] = dict(theirs[: MAX_METADATA_PAIRS - len(ours)]) | ours
    return asked


def _check_models(wishes: Wishes, inventory: Inventory) -> None:
    for name in (*wishes.models.values(), *([wishes.model] if wishes.model else [])):
        if name.lower() not in inventory.models:
            raise InvalidRequest(
                "model_not_here",
                f"There is no model {name!r} here that is ready. `luthier models list` shows those that are, "
                "`luthier models pull NAME` brings a base model.",
                "model",
            )


def _chosen(jobs: Sequence[SourceJob], only: frozenset[str]) -> list[SourceJob]:
    unknown = only - {job.id for job in jobs}
    if unknown:
        raise InvalidRequest("job_not_at_source", f"The account has no job {', '.join(sorted(unknown))}.", "job")
    return [job for job in jobs if not only or job.id in only]


def _file_plan(file: SourceFile, inventory: Inventory, state: State) -> FilePlan:
    brought = state.files.get(file.id)
    if brought is not None and brought.id in inventory.files:
        return FilePlan(file, here=brought.id)
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
    wishes: Wishes,
    archived: Mapping[str, str],
) -> JobPlan:
    archive = archived.get(job.id) != job.status or job.status not in records.ENDED
    known = inventory.jobs.get(job.id)
    here_already = known.id if known else state.jobs.get(job.id)
    wanted = job.id in wishes.only or (wishes.recreate and job.status == records.SUCCEEDED)
    if here_already or not wanted:
        return JobPlan(job, archive, here=here_already)
    reason = _why_not(job, lost, state)
    if reason is not None:
        return JobPlan(job, archive, reason=reason)
    model = _model(job, inventory, wishes)
    if model is None:
        return JobPlan(job, archive, reason=_no_model(job))
    return JobPlan(job, archive, model=model, notes=tuple(_notes(job, lost)))


def _why_not(job: SourceJob, lost: Mapping[str, str], state: State) -> str | None:
    if job.method not in records.METHODS:
        return f"its method {job.method} cannot be trained here yet"
    if job.training_file is None:
        return "the source tells no training file of it"
    if job.training_file in lost:
        return f"its training file {job.training_file} cannot be brought: {lost[job.training_file]}"
    return images_in(job, state.files)


def images_in(job: SourceJob, files: Mapping[str, BroughtFile]) -> str | None:
    """Why a job with rows of images stays; known once its files were read."""
    for name in job.files:
        if name in files and files[name].has_images:
            return f"rows of {name} hold images, which cannot be trained on here yet"
    return None


def _model(job: SourceJob, inventory: Inventory, wishes: Wishes) -> str | None:
    if chosen := wishes.models.get(job.model):
        return inventory.models[chosen.lower()]
    if _is_tuned(job.model):
        return inventory.model_of(job.model)
    return inventory.models.get((wishes.model or job.model).lower())


def _no_model(job: SourceJob) -> str:
    if _is_tuned(job.model):
        return (
            f"it goes on from {job.model}: re-create the job that made that model, and run this again once it has "
            f"succeeded here; or name a model here by --map {job.model}=NAME"
        )
    return f"no base model here for {job.model}: name one by --map {job.model}=NAME or --model NAME"


def _is_tuned(model: str) -> bool:
    return model.startswith("ft:") or ".ft-" in model


def _notes(job: SourceJob, lost: Mapping[str, str]) -> list[str]:
    notes = []
    if job.validation_file and job.validation_file in lost:
        notes.append(f"without its validation file {job.validation_file}: {lost[job.validation_file]}")
    if job.suffix and _suffix(job.suffix) != job.suffix:
        notes.append(f"suffix {job.suffix!r} becomes {_suffix(job.suffix)!r}")
    if job.seed is not None and not 0 <= job.seed <= MAX_SEED:
        notes.append(f"with another seed than {job.seed}")
    return notes


def _suffix(suffix: str | None) -> str:
    """A suffix in the letters that names of models have here."""
    kept = (letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "-" for letter in suffix or "")
    return "".join(kept)[:MAX_SUFFIX_CHARACTERS]
