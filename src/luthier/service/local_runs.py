"""A run without a job: checked, written as a run directory or found there again, and in the end summed up."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from luthier import manifest, rates
from luthier.catalog import BaseModelEntry, Catalog
from luthier.core import hyperparameters, ids
from luthier.core.errors import Conflict, ErrorDetail, InvalidRequest, NoSpace
from luthier.core.hyperparameters import Hyperparameters
from luthier.core.states import Method
from luthier.data.problem import Severity
from luthier.data.validate import Report
from luthier.rates import Rate
from luthier.run_directory import CheckpointSaved, Metrics, RunDirectory, Succeeded, TrainSpec
from luthier.service import checks, specs
from luthier.service.checks import Rules
from luthier.service.context import is_prepared
from luthier.service.jobs import MAX_SEED

_CHUNK_BYTES = 1 << 20
_NOT_COMPARED = ("job_id", "threads", "base_folder")


@dataclass(frozen=True, slots=True)
class LocalRequest:
    """What `luthier train` is asked for; None means chosen for you."""

    model: str
    training_file: Path
    validation_file: Path | None
    hyperparameters: Hyperparameters
    method: Method
    seed: int | None
    early_stop_patience: int | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """A finished run in numbers.

    `tokens` are the real tokens of all steps' examples, every epoch counted: no padding, and a beginning that examples
    share counted in each of them. `supervised_tokens` are those of them that were learned. The rates are these counts
    over `step_seconds`: forward, backward and optimizer of all steps, the first one with its warm-up included, without
    validation, checkpoints and saving. They come from the run's step events, each step once however often the run was
    resumed. `seconds` is the time of the whole loop, validation, checkpoints and saving included, loading not.
    `peak_memory_bytes` is that of the trainer process that came to the end.
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
    """A run directory at `out` that is ready to train or to go on; nothing is written before all is checked.

    Raises InvalidRequest for what can never be trained, Conflict where `out` holds something else.
    """
    _check_numbers(request)
    _check_early_stopping(request)
    base = _base(catalog, models_folder, request.model)
    specs.check_method(base, request.method)
    # Rows that may be too long are tokenized now: a trainer takes seconds to come to them.
    rules = Rules(request.method, base, models_folder / base.name, counts_all=False)
    training = checks.check_training(_opened(request.training_file, "--data"), rules)
    _refuse_errors(training.report, request.training_file, "--data")
    if request.validation_file is not None:
        held_out = checks.check_validation(_opened(request.validation_file, "--validation"), rules, training)
        _refuse_errors(held_out.report, request.validation_file, "--validation")
    run = RunDirectory(out.absolute())
    kept = _kept_spec(run)
    asked_seed = request.seed if kept is None or request.seed is not None else kept.seed
    spec = specs.make(
        base,
        models_folder / base.name,
        hyperparameters.resolve(request.hyperparameters, training.report.n_examples, request.method),
        job_id="",
        seed=new_seed() if asked_seed is None else asked_seed,
        has_validation=request.validation_file is not None,
        threads=threads,
        early_stop_patience=request.early_stop_patience,
    )
    spec = spec.model_copy(update={"job_id": _job_id(spec, request)})
    if kept is None:
        _copy_data(run, request)
    elif differing := _differing(run, kept, spec, request):
        raise Conflict(
            "other_run",
            f"{out} holds another run, which this command would not go on with. Give another --out, or the same "
            f"parameters. What differs: {'; '.join(differing)}.",
        )
    run.write_spec(spec)
    return run


def summary(run: RunDirectory, verdict: Succeeded) -> Summary:
    """Sums up the events of a run that has succeeded."""
    events = [event for event, _ in run.tail()]
    steps = [event for event in events if isinstance(event, Metrics)]
    saved = [event for event in events if isinstance(event, CheckpointSaved)]
    chosen = next((event for event in saved if event.step == verdict.model_step), saved[-1])
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
        adapter_sha256=manifest.sha256_of(manifest.tuned_weights(folder)),
    )


def note_rate(data_folder: Path, run: RunDirectory, verdict: Succeeded) -> None:
    """Remembers how fast the run was, for estimates on this machine."""
    with suppress(NoSpace, OSError):  # then they go by an older run
        rate = Rate(verdict.trained_tokens, verdict.seconds, verdict.peak_memory_bytes)
        rates.note(data_folder, run.read_spec().base_model, rate)


def as_json(summed: Summary) -> str:
    return json.dumps(asdict(summed), indent=2)


def _check_numbers(request: LocalRequest) -> None:
    hyperparameters.check(request.hyperparameters)
    if request.seed is not None and not 0 <= request.seed <= MAX_SEED:
        raise InvalidRequest("invalid_seed", f"seed is {request.seed}; it must be from 0 to {MAX_SEED}.", "seed")


def _check_early_stopping(request: LocalRequest) -> None:
    patience = request.early_stop_patience
    if patience is None:
        return
    if not 1 <= patience <= hyperparameters.MAX_EPOCHS:
        text = f"--early-stop is {patience}; it must be from 1 to {hyperparameters.MAX_EPOCHS}."
        raise InvalidRequest("invalid_early_stopping", text)
    if request.validation_file is None:
        text = "--early-stop looks at the validation loss: give --validation as well."
        raise InvalidRequest("early_stopping_needs_validation", text)


def _base(catalog: Catalog, models_folder: Path, name: str) -> BaseModelEntry:
    entry = catalog.find(name)
    if entry is None:
        here = ", ".join(known for known in catalog.entries if is_prepared(models_folder / known)) or "none yet"
        raise InvalidRequest(
            "model_not_found",
            f"There is no base model {name!r}. On this machine: {here}. The catalog has: {', '.join(catalog.entries)}. "
            "`luthier models pull NAME` brings one here.",
        )
    if not is_prepared(models_folder / entry.name):
        raise InvalidRequest(
            "model_not_ready",
            f"The weights of {entry.name} are not on this machine yet. Run: luthier models pull {entry.name}",
        )
    return entry


def _opened(path: Path, option: str) -> Iterator[bytes]:
    if not path.is_file():
        raise InvalidRequest("file_not_found", f"{option}: there is no file {path}.")
    return _chunks(path)


def _refuse_errors(report: Report, path: Path, option: str) -> None:
    """Raises InvalidRequest with every problem of the file as a detail."""
    if report.valid:
        return
    listed = [problem for problem in report.problems if problem.severity is Severity.ERROR]
    first = f", the first {len(listed)} of them" if report.n_errors > len(listed) else ""
    raise InvalidRequest(
        "invalid_file",
        f"{option} {path} cannot be used: {report.n_errors} problem(s){first}:",
        details=[ErrorDetail(problem.code, problem.sentence(), problem.path) for problem in listed],
    )


def _kept_spec(run: RunDirectory) -> TrainSpec | None:
    """The spec of the run that the folder holds; None for a folder that is free to take."""
    if run.spec.exists():
        try:
            return run.read_spec()
        except ValidationError as error:
            raise Conflict("other_run", f"{run.spec} is not a spec of this version. Give another --out.") from error
    # Data without a spec is what a command left that was ended while it copied.
    if run.path.exists() and not (run.path.is_dir() and {*run.path.iterdir()} <= {run.training, run.validation}):
        raise Conflict("not_a_run", f"{run.path} exists and holds no run. Give another --out, or an empty folder.")
    return None


def _copy_data(run: RunDirectory, request: LocalRequest) -> None:
    run.path.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(request.training_file, run.training)
    if request.validation_file is not None:
        shutil.copyfile(request.validation_file, run.validation)


def _differing(run: RunDirectory, kept: TrainSpec, asked: TrainSpec, request: LocalRequest) -> list[str]:
    there, here = (spec.model_dump(exclude=set(_NOT_COMPARED)) for spec in (kept, asked))
    found = [f"{name} is {there[name]} there and {here[name]} here" for name in here if there[name] != here[name]]
    for path, own in ((request.training_file, run.training), (request.validation_file, run.validation)):
        if path is not None and own.exists() and manifest.sha256_of(path) != manifest.sha256_of(own):
            found.append(f"{path} has other bytes than {own}")
    return found


def _job_id(spec: TrainSpec, request: LocalRequest) -> str:
    """An id that follows from what is trained: the same command on the same bytes makes the same model."""
    content = spec.model_dump_json(exclude=set(_NOT_COMPARED))
    files = [path for path in (request.training_file, request.validation_file) if path is not None]
    text = "\n".join([content, *map(manifest.sha256_of, files)])
    return ids.job_id(hashlib.sha256(text.encode()).hexdigest()[:32])


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
