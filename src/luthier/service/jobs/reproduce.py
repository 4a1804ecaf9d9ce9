"""A finished run prepared to be trained again from its provenance, and the two compared by their hashes.

For `luthier reproduce`, which starts the trainer in between.
"""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from luthier import manifest, model_folder
from luthier.core.errors import Conflict, NotFound, Unsupported
from luthier.core.models import Job
from luthier.core.states import JobStatus, Tuning
from luthier.manifest import Manifest
from luthier.model_folder import BaseModelFolder, CheckpointFolder
from luthier.run_directory.run_directory import RESULTS_FILE, RunDirectory
from luthier.run_directory.run_events import Succeeded
from luthier.run_directory.train_spec import TrainSpec
from luthier.service.context import Context
from luthier.service.files import files
from luthier.service.jobs import jobs
from luthier.service.models import models, serving
from luthier.store.queries import checkpoints


@dataclass(frozen=True, slots=True)
class Recorded:
    """The record of a run: the manifest of its last model, and the sha256 of each outcome (the weights of every
    checkpoint, results.csv) by its name.
    """

    manifest: Manifest
    outcomes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run trained again, beside the record. `outcomes`: name, recorded sha256, new sha256 or "missing".

    `differing`: field, recorded and new value of what the two manifests differ in.
    """

    outcomes: list[tuple[str, str, str]]
    differing: list[tuple[str, str, str]]

    @property
    def equal(self) -> bool:
        """Whether all outcomes have the recorded hashes, whatever the manifests differ in."""
        return all(recorded == new for _, recorded, new in self.outcomes)


def from_job(context: Context, resource_id: str, job_id: str, target: RunDirectory) -> Recorded:
    """Prepares `target` to train a succeeded job again: data, parent model and spec are written there.

    Raises NotFound if an input or outcome was deleted, Conflict if the job has not succeeded or an input has changed,
    and Unsupported for a checkpoint without a manifest of this version.
    """
    job = jobs.get(context, resource_id, job_id)
    if job.status is not JobStatus.SUCCEEDED or job.result_file is None:
        raise Conflict("job_not_succeeded", f"{job_id} is {job.status}; only a job that succeeded can be reproduced.")
    with context.database.reading() as tx:
        saved = checkpoints.list_of_job(tx, job_id)
    if not saved:
        raise NotFound("model_not_found", f"The model of {job_id} and its checkpoints were deleted.")
    last = saved[-1]
    if model_folder.MANIFEST not in last.files:
        raise Unsupported(
            "no_manifest", f"{last.model} has no {model_folder.MANIFEST}: it was trained before there were any."
        )
    recorded_manifest = _parsed(b"".join(_stored(context, models.blob_key(last.id, model_folder.MANIFEST), last.model)))
    _copy_inputs(context, job, target)
    _write_inputs_spec(target, recorded_manifest, context.base_folder(job.base_model))
    # Of the blobs that are served, not of what a manifest says about them.
    weights_file = _weights_file(recorded_manifest)
    outcomes = {
        _outcome(one.step): _stored_sha256(context, models.blob_key(one.id, weights_file), one.model) for one in saved
    }
    results = _stored_sha256(context, files.blob_key(job.result_file), f"The results file {job.result_file}")
    return Recorded(recorded_manifest, outcomes | {RESULTS_FILE: results})


def from_directory(source: RunDirectory, models_folder: Path, target: RunDirectory) -> Recorded:
    """The same for a run directory, such as `luthier train --out` makes; `models_folder` has the base model if the
    folder that the run used is gone.
    """
    spec = _ended_spec(source)
    for path, copy in ((source.training, target.training), (source.validation, target.validation)):
        if path == source.training or spec.has_validation:
            if not path.exists():
                raise NotFound("file_not_found", f"{path} was deleted; without it the run cannot be trained again.")
            shutil.copyfile(path, copy)
    if spec.continued:
        shutil.copytree(source.parent, target.parent)
    recorded_manifest = _parsed((_folders(source)[-1].manifest).read_bytes())
    own = (BaseModelFolder(spec.base_folder).hf.weights).exists()
    _write_inputs_spec(target, recorded_manifest, spec.base_folder if own else models_folder / spec.base_model)
    return Recorded(recorded_manifest, _outcomes(source))


def compare(recorded: Recorded, run: RunDirectory) -> Comparison:
    """Compares a run that was trained again with the record: hashes its weights and results, reads its manifest."""
    new = _outcomes(run)
    outcomes = [(name, sha256, new.get(name, "missing")) for name, sha256 in recorded.outcomes.items()]
    new_manifest = _parsed(_folders(run)[-1].manifest.read_bytes())
    return Comparison(outcomes, manifest.differences(recorded.manifest, new_manifest))


def _copy_inputs(context: Context, job: Job, target: RunDirectory) -> None:
    """Copies the job's data files and parent model from the blob store. Raises NotFound if one was deleted."""
    for file_id, path in ((job.training_file, target.training), (job.validation_file, target.validation)):
        if file_id is not None:
            with path.open("wb") as stream:
                stream.writelines(_stored(context, files.blob_key(file_id), f"The file {file_id} of {job.id}"))
    if job.parent_model is not None:
        parent = models.get(context, job.resource_id, job.parent_model).checkpoint
        assert parent is not None
        serving.copy_files(context, parent, target.parent)


def _write_inputs_spec(target: RunDirectory, recorded_manifest: Manifest, base_folder: Path) -> None:
    """Writes the spec if every input is what the manifest says: otherwise the outcome could only differ.

    Raises NotFound for an input that is missing, Conflict for one with another sha256.
    """
    expected = {
        target.training: recorded_manifest.files.training_file,
        target.validation: recorded_manifest.files.validation_file,
        target.parent / _weights_file(recorded_manifest): recorded_manifest.lineage.parent_adapter,
        BaseModelFolder(base_folder).hf.weights: recorded_manifest.files.base_weights,
    }
    for path, sha256 in expected.items():
        if sha256 is None:
            continue
        if not path.exists():
            name = recorded_manifest.lineage.base_model
            raise NotFound("base_model_missing", f"{path} is not here. Run `luthier models pull {name}`.")
        if (now := manifest.sha256_of(path)) != sha256:
            raise Conflict(
                "input_changed",
                f"{path.name} is not what the model was trained on, so the result cannot be equal: "
                f"sha256 {sha256} then, {now} now.",
            )
    target.write_spec(recorded_manifest.train_spec(base_folder))


def _ended_spec(source: RunDirectory) -> TrainSpec:
    """The spec of a run that has succeeded and whose checkpoints have manifests.

    Raises NotFound for a folder that is no run of this version, Conflict for a run that has not succeeded, Unsupported
    without manifests.
    """
    try:
        spec = source.read_spec()
    except (FileNotFoundError, ValidationError) as error:
        raise NotFound("not_a_run", f"{source.path} is not a run directory of this version (spec.json).") from error
    if not any(isinstance(event, Succeeded) for event, _ in source.tail()):
        raise Conflict("run_not_succeeded", f"The run in {source.path} has not succeeded; it has no model to compare.")
    folders = _folders(source)
    if not folders or not all(folder.manifest.exists() for folder in folders):
        raise Unsupported(
            "no_manifest", f"The checkpoints of {source.path} are gone, or have no {model_folder.MANIFEST}."
        )
    return spec


def _folders(run: RunDirectory) -> list[CheckpointFolder]:
    return [folder for _, folder in model_folder.list_checkpoints(run.checkpoints)]


def _outcomes(run: RunDirectory) -> dict[str, str]:
    """The sha256 of each checkpoint's weights and of results.csv, by the names of outcomes."""
    outcomes = {
        _outcome(step): manifest.sha256_of(folder.tuned_weights)
        for step, folder in model_folder.list_checkpoints(run.checkpoints)
    }
    return outcomes | {RESULTS_FILE: manifest.sha256_of(run.results)}


def _weights_file(recorded_manifest: Manifest) -> str:
    return model_folder.WEIGHTS if recorded_manifest.tuning is Tuning.FULL else model_folder.ADAPTER_WEIGHTS


def _outcome(step: int) -> str:
    return f"weights of step {step}"


def _parsed(content: bytes) -> Manifest:
    """The manifest. Raises Unsupported for one of another version."""
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise Unsupported("no_manifest", f"{model_folder.MANIFEST} is of another version of Luthier.") from error


def _stored(context: Context, key: str, what: str) -> Iterator[bytes]:
    """The chunks of a blob. Raises NotFound, with `what` in its text, if it was deleted."""
    try:
        return context.blobs.open(key)
    except FileNotFoundError as error:
        raise NotFound(
            "file_not_found", f"{what} was deleted; without it the run cannot be trained again and compared."
        ) from error


def _stored_sha256(context: Context, key: str, what: str) -> str:
    """The sha256 of a blob's bytes, in hex. Raises NotFound, with `what` in its text, if it was deleted."""
    digest = hashlib.sha256()
    for chunk in _stored(context, key, what):
        digest.update(chunk)
    return digest.hexdigest()
