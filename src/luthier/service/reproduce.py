"""A finished run made ready to be trained again from what is kept of it, and the two compared hash by hash."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from luthier import manifest
from luthier.core.errors import Conflict, NotFound, Unsupported
from luthier.core.models import Job
from luthier.core.states import JobStatus
from luthier.manifest import Manifest
from luthier.run_directory import RunDirectory, Succeeded, TrainSpec
from luthier.service import files, jobs, models, serving
from luthier.service.context import Context
from luthier.store import checkpoints

RESULTS = "results.csv"


@dataclass(frozen=True, slots=True)
class Kept:
    """What a run left: the manifest of its last model, and the sha256 of each outcome by its name."""

    manifest: Manifest
    outcomes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`outcomes`: name, sha256 that is kept, sha256 of now. `differing`: what the manifests do not agree on."""

    outcomes: list[tuple[str, str, str]]
    differing: list[tuple[str, str, str]]

    @property
    def equal(self) -> bool:
        return all(kept == now for _, kept, now in self.outcomes)


def from_job(context: Context, resource_id: str, job_id: str, target: RunDirectory) -> Kept:
    """Makes `target` ready to train a succeeded job again. Raises LuthierError where something of it is gone."""
    job = jobs.get(context, resource_id, job_id)
    if job.status is not JobStatus.SUCCEEDED or job.result_file is None:
        raise Conflict("job_not_succeeded", f"{job_id} is {job.status}; only a job that succeeded can be reproduced.")
    with context.database.reading() as tx:
        saved = checkpoints.list_of_job(tx, job_id)
    if not saved:
        raise NotFound("model_not_found", f"The model of {job_id} and its checkpoints were deleted.")
    last = saved[-1]
    if manifest.FILE not in last.files:
        raise Unsupported("no_manifest", f"{last.model} has no {manifest.FILE}: it was trained before there were any.")
    made = _parsed(b"".join(_stored(context, models.blob_key(last.id, manifest.FILE), last.model)))
    _bring_inputs(context, job, target)
    _make_ready(target, made, context.base_folder(job.base_model))
    # Of the bytes that are served, not of what a manifest says about them.
    outcomes = {
        _outcome(kept.step): _stored_sha256(context, models.blob_key(kept.id, _weights_file(made)), kept.model)
        for kept in saved
    }
    results = _stored_sha256(context, files.blob_key(job.result_file), f"The results file {job.result_file}")
    return Kept(made, outcomes | {RESULTS: results})


def from_directory(source: RunDirectory, models_folder: Path, target: RunDirectory) -> Kept:
    """The same for a run directory, such as `luthier train --out` makes."""
    spec = _ended_spec(source)
    for path, copy in ((source.training, target.training), (source.validation, target.validation)):
        if path == source.training or spec.has_validation:
            if not path.exists():
                raise NotFound("file_not_found", f"{path} was deleted; without it the run cannot be trained again.")
            shutil.copyfile(path, copy)
    if spec.continued:
        shutil.copytree(source.parent, target.parent)
    made = _parsed((_folders(source)[-1] / manifest.FILE).read_bytes())
    own = (spec.base_folder / manifest.WEIGHTS_FILE).exists()
    _make_ready(target, made, spec.base_folder if own else models_folder / spec.base_model)
    return Kept(made, _outcomes(source))


def compare(kept: Kept, run: RunDirectory) -> Comparison:
    """Holds a run that was trained again against what is kept."""
    now = _outcomes(run)
    outcomes = [(name, sha256, now.get(name, "missing")) for name, sha256 in kept.outcomes.items()]
    made = _parsed((_folders(run)[-1] / manifest.FILE).read_bytes())
    return Comparison(outcomes, manifest.differences(kept.manifest, made))


def _bring_inputs(context: Context, job: Job, target: RunDirectory) -> None:
    for file_id, path in ((job.training_file, target.training), (job.validation_file, target.validation)):
        if file_id is not None:
            with path.open("wb") as stream:
                stream.writelines(_stored(context, files.blob_key(file_id), f"The file {file_id} of {job.id}"))
    if job.parent_model is not None:
        parent = models.get(context, job.resource_id, job.parent_model).checkpoint
        assert parent is not None
        serving.bring(context, parent, target.parent)


def _make_ready(target: RunDirectory, made: Manifest, base_folder: Path) -> None:
    """Writes the spec once every input is what the manifest says: hours of training could only differ otherwise."""
    wanted = {
        target.training: made.files.training_file,
        target.validation: made.files.validation_file,
        target.parent / _weights_file(made): made.lineage.parent_adapter,
        base_folder / manifest.WEIGHTS_FILE: made.files.base_weights,
    }
    for path, sha256 in wanted.items():
        if sha256 is None:
            continue
        if not path.exists():
            name = made.lineage.base_model
            raise NotFound("base_model_missing", f"{path} is not here. Bring it with `luthier models pull {name}`.")
        if (found := manifest.sha256_of(path)) != sha256:
            raise Conflict(
                "input_changed",
                f"{path.name} is not what the model was trained on, so it cannot come out the same: "
                f"sha256 {sha256} then, {found} now.",
            )
    target.write_spec(made.train_spec(base_folder))


def _ended_spec(source: RunDirectory) -> TrainSpec:
    """The spec of a run that has succeeded."""
    try:
        spec = source.read_spec()
    except (FileNotFoundError, ValidationError) as error:
        raise NotFound("not_a_run", f"{source.path} is no run directory of this version (spec.json).") from error
    if not any(isinstance(event, Succeeded) for event, _ in source.tail()):
        raise Conflict("run_not_succeeded", f"The run in {source.path} has not succeeded; it has no model to compare.")
    folders = _folders(source)
    if not folders or not all((folder / manifest.FILE).exists() for folder in folders):
        raise Unsupported("no_manifest", f"The checkpoints of {source.path} are gone, or have no {manifest.FILE}.")
    return spec


def _folders(run: RunDirectory) -> list[Path]:
    return sorted(run.checkpoints.glob("step-*"))


def _outcomes(run: RunDirectory) -> dict[str, str]:
    found = {
        _outcome(int(folder.name.rpartition("-")[2])): manifest.sha256_of(manifest.tuned_weights(folder))
        for folder in _folders(run)
    }
    return found | {RESULTS: manifest.sha256_of(run.results)}


def _weights_file(made: Manifest) -> str:
    return manifest.MODEL_FILE if made.spec["lora"] is None else manifest.ADAPTER_FILE


def _outcome(step: int) -> str:
    return f"adapter of step {step}"


def _parsed(content: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise Unsupported("no_manifest", f"{manifest.FILE} is of another version of Luthier.") from error


def _stored(context: Context, key: str, what: str) -> Iterator[bytes]:
    try:
        return context.blobs.open(key)
    except FileNotFoundError as error:
        raise NotFound(
            "file_not_found", f"{what} was deleted; without it the run cannot be trained again and compared."
        ) from error


def _stored_sha256(context: Context, key: str, what: str) -> str:
    digest = hashlib.sha256()
    for chunk in _stored(context, key, what):
        digest.update(chunk)
    return digest.hexdigest()
