"""A run without a job (`luthier train`): checks, the run directory, new or resumed, and the summary.

It needs no database: data files are read where they are, and all is written into the run directory.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from luthier import manifest
from luthier.atomic_io import read_chunks
from luthier.catalog import BaseModelEntry, Catalog
from luthier.core import ids
from luthier.core.errors import Conflict, ErrorDetail, InvalidRequest
from luthier.core.states import Method
from luthier.core.training import hyperparameters
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.core.training.rank_plan import ONE_RANK, RankPlan
from luthier.core.training.recipe import EMPTY_RECIPE, MAX_RECIPE_EPOCHS, Recipe
from luthier.data.checks.validate import Report
from luthier.data.problems.problem import Severity
from luthier.model_folder import BaseModelFolder, CheckpointFolder
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import CheckpointSaved, Metrics, Succeeded
from luthier.run_directory.train_spec import TrainSpec
from luthier.service.files import data_check
from luthier.service.files.data_check import Rules
from luthier.service.jobs import train_specs
from luthier.service.models import model_kinds

_NOT_COMPARED = ("job_id", "threads", "base_folder", "tuning")
"""`tuning` follows from `lora`, which is compared; ids of runs are those of versions that did not write it."""


@dataclass(frozen=True, slots=True)
class LocalRequest:
    """The request of `luthier train`; None means auto, but no early stopping for the patience, which is in epochs.

    Without a `seed` a new run draws one, and a resumed one keeps its own.
    """

    model: str
    training_file: Path
    validation_file: Path | None
    hyperparameters: Hyperparameters
    method: Method
    seed: int | None
    early_stop_patience: int | None = None
    recipe: Recipe = EMPTY_RECIPE
    plan: RankPlan = ONE_RANK


@dataclass(frozen=True, slots=True)
class Summary:
    """The metrics of a finished run, losses in nats as in `run_events.Metrics`.

    `tokens` counts the tokens of all steps' examples in every epoch, without padding; a prefix that examples share
    counts in each of them. `supervised_tokens` are those with a loss. The throughputs are these counts over
    `step_seconds`: forward, backward and optimizer of all steps, the warm-up of the first one included, without
    validation, checkpoints and saving. They are from the run's step events, each step once, even if the run was
    resumed. `seconds` is the time of the training loop with validation, checkpoints and saving, without loading.
    `peak_memory_bytes` is that of the trainer process that finished the run.
    """

    steps: int
    tokens: int
    supervised_tokens: int
    tokens_per_s: float
    supervised_tokens_per_s: float
    step_seconds: float
    seconds: float
    peak_memory_bytes: int
    train_loss: float
    full_valid_loss: float | None
    checkpoint: str
    adapter_sha256: str


def prepare(
    request: LocalRequest,
    out: Path,
    catalog: Catalog,
    models_folder: Path,
    threads: int | None,
    new_seed: Callable[[], int],
) -> RunDirectory:
    """A run directory at `out`, ready to start or to resume; nothing is written before all is checked.

    The data files are read to their ends, and copied for a new run. `threads` is CPU threads, None for one per core.
    Raises InvalidRequest for what cannot be trained, Conflict if `out` contains something else.
    """
    _check_numbers(request)
    base = _requested_base(catalog, models_folder, request)
    train_specs.check_method(base, request.method)
    # Rows that may be too long are tokenized now: a trainer needs seconds before it reads them.
    rules = Rules(request.method, base, models_folder / base.name, counts_all=False)
    training = data_check.check_training(_opened(request.training_file, "--data"), rules)
    _refuse_errors(training.report, request.training_file, "--data")
    if request.validation_file is not None:
        validation = data_check.check_validation(_opened(request.validation_file, "--validation"), rules, training)
        _refuse_errors(validation.report, request.validation_file, "--validation")
    run = RunDirectory(out.absolute())
    stored = _stored_spec(run)
    asked_seed = request.seed if stored is None or request.seed is not None else stored.seed
    spec = train_specs.make_spec(
        base,
        models_folder / base.name,
        train_specs.resolve(base, request.hyperparameters, request.recipe, training.report.n_examples, request.method),
        job_id="",
        seed=new_seed() if asked_seed is None else asked_seed,
        has_validation=request.validation_file is not None,
        threads=threads,
        recipe=request.recipe,
        early_stop_patience=request.early_stop_patience,
        plan=request.plan,
    )
    spec = spec.model_copy(update={"job_id": _job_id(spec, request)})
    if stored is None:
        _copy_data(run, request)
    elif differing := _differing(run, stored, spec, request):
        raise Conflict(
            "other_run",
            f"{out} contains another run, which this command would not resume. Give another --out, or the same "
            f"parameters. What differs: {'; '.join(differing)}.",
        )
    run.write_spec(spec)
    return run


def summary(run: RunDirectory, verdict: Succeeded) -> Summary:
    """The metrics of a run that has succeeded, from its event log and the weights of its model, which are hashed."""
    events = [event for event, _ in run.tail()]
    steps = [event for event in events if isinstance(event, Metrics)]
    checkpoints = [event for event in events if isinstance(event, CheckpointSaved)]
    last = max(checkpoints, key=lambda event: event.step)
    chosen = next((event for event in checkpoints if event.step == verdict.model_step), last)
    folder = run.checkpoints / chosen.folder
    tokens = sum(step.tokens or 0 for step in steps)
    supervised = sum(step.supervised_tokens or 0 for step in steps)
    step_seconds = sum(step.seconds or 0.0 for step in steps)
    return Summary(
        steps=len(steps),
        tokens=tokens,
        supervised_tokens=supervised,
        tokens_per_s=tokens / step_seconds,
        supervised_tokens_per_s=supervised / step_seconds,
        step_seconds=step_seconds,
        seconds=verdict.seconds,
        peak_memory_bytes=verdict.peak_memory_bytes,
        train_loss=steps[chosen.step - 1].train_loss,
        full_valid_loss=steps[chosen.step - 1].full_valid_loss,
        checkpoint=str(folder),
        adapter_sha256=manifest.sha256_of(CheckpointFolder(folder).tuned_weights),
    )


def as_json(summary: Summary) -> str:
    return json.dumps(asdict(summary), indent=2)


def _check_numbers(request: LocalRequest) -> None:
    """Raises InvalidRequest for hyperparameters, a seed or a patience out of range."""
    hyperparameters.check(request.hyperparameters, MAX_RECIPE_EPOCHS)
    hyperparameters.check_seed(request.seed)
    hyperparameters.check_early_stopping(request.early_stop_patience, request.validation_file is not None)


def _requested_base(catalog: Catalog, models_folder: Path, request: LocalRequest) -> BaseModelEntry:
    """The base model's entry, quantized if the recipe says so, with the recipe applied. Raises InvalidRequest."""
    base, bits = _prepared(catalog, models_folder, request.model), request.recipe.bits
    if bits is not None and bits != train_specs.quantization_of(base):
        base = train_specs.quantized_base(catalog, base, bits, partial(_is_pulled, models_folder))
    return train_specs.apply_recipe(base, models_folder / base.name, request.recipe)


def _prepared(catalog: Catalog, models_folder: Path, name: str) -> BaseModelEntry:
    """The entry of a base model that has been pulled. Raises InvalidRequest for an unknown or missing one."""
    entry = catalog.find(name)
    if entry is None:
        here = ", ".join(one.name for one in catalog.everything() if _is_pulled(models_folder, one.name)) or "none yet"
        raise InvalidRequest(
            "model_not_found",
            f"There is no base model {name!r}. On this machine: {here}. The catalog has: {', '.join(catalog.entries)}. "
            "`luthier models pull NAME` fetches one.",
        )
    model_kinds.check_tunable(entry, None)
    if not _is_pulled(models_folder, entry.name):
        raise InvalidRequest(
            "model_not_ready",
            f"The weights of {entry.name} are not on this machine yet. Run: luthier models pull {entry.name}",
        )
    return entry


def _is_pulled(models_folder: Path, name: str) -> bool:
    return BaseModelFolder(models_folder / name).is_complete


def _opened(path: Path, option: str) -> Iterator[bytes]:
    """The file's bytes in chunks. Raises InvalidRequest, naming the command's `option`, if there is no such file."""
    if not path.is_file():
        raise InvalidRequest("file_not_found", f"{option}: there is no file {path}.")
    return read_chunks(path)


def _refuse_errors(report: Report, path: Path, option: str) -> None:
    """Raises InvalidRequest if the file has errors, each kind of them as a detail; warnings pass."""
    if report.valid:
        return
    kinds = [group for group in report.groups if group.first.severity is Severity.ERROR]
    raise InvalidRequest(
        "invalid_file",
        f"{option} {path} cannot be used: {report.n_errors:,} problem(s):",
        details=[ErrorDetail(kind.first.code, kind.sentence(), kind.first.path) for kind in kinds],
    )


def _stored_spec(run: RunDirectory) -> TrainSpec | None:
    """The spec of the run in the folder; None for a folder that is free for a new run.

    Raises Conflict for a folder with something else, and for a spec of another version.
    """
    if run.spec.exists():
        try:
            return run.read_spec()
        except ValidationError as error:
            raise Conflict("other_run", f"{run.spec} is not a spec of this version. Give another --out.") from error
    # Data without a spec is left by a command that was killed while it copied.
    if run.path.exists() and not (run.path.is_dir() and {*run.path.iterdir()} <= {run.training, run.validation}):
        raise Conflict("not_a_run", f"{run.path} exists and is not a run. Give another --out, or an empty folder.")
    return None


def _copy_data(run: RunDirectory, request: LocalRequest) -> None:
    """Makes the run directory, and copies the data files into it."""
    run.path.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(request.training_file, run.training)
    if request.validation_file is not None:
        shutil.copyfile(request.validation_file, run.validation)


def _differing(run: RunDirectory, stored: TrainSpec, requested: TrainSpec, request: LocalRequest) -> list[str]:
    """What differs between the stored run and the request, a phrase each: fields of the spec, hashes of data files.

    Empty if the stored run may be resumed.
    """
    before, now = (spec.model_dump(exclude=set(_NOT_COMPARED)) for spec in (stored, requested))
    differing = [f"{name} is {before[name]} there and {now[name]} here" for name in now if before[name] != now[name]]
    for path, own in ((request.training_file, run.training), (request.validation_file, run.validation)):
        if path is not None and own.exists() and manifest.sha256_of(path) != manifest.sha256_of(own):
            differing.append(f"{path} has other bytes than {own}")
    return differing


def _job_id(spec: TrainSpec, request: LocalRequest) -> str:
    """An id hashed from spec and data files: the same command on the same bytes gives the same model."""
    content = spec.model_dump_json(exclude=set(_NOT_COMPARED))
    files = [path for path in (request.training_file, request.validation_file) if path is not None]
    text = "\n".join([content, *map(manifest.sha256_of, files)])
    return ids.job_id(hashlib.sha256(text.encode()).hexdigest()[:32])
