"""Builds the run directory of an attempt on this node's disk, from its start manifest."""

import shutil
from pathlib import Path

from luthier.model_folder import BaseModelFolder
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.shipped_run import ShippedRun, StartManifest


def build(run: RunDirectory, shipped: ShippedRun, start: StartManifest, models_folder: Path | None) -> None:
    """Downloads all files of the manifest, the spec last, and points the spec at this node's base model.

    What an earlier try left is removed first. `models_folder` None leaves the base model's folder as the service sees
    it. Raises Unavailable, Conflict for damaged bytes, FileNotFoundError for a job that was discarded, NoSpace.
    """
    shutil.rmtree(run.path, ignore_errors=True)
    run.path.mkdir(parents=True)
    for file in sorted(start.files, key=lambda file: file.path == run.spec.name):
        shipped.download(file, run.path / file.path)
    if start.interrupted:
        run.under_way.touch()
    if models_folder is not None:
        spec = run.read_spec()
        run.write_spec(spec.model_copy(update={"base_folder": models_folder / spec.base_model}))


def missing_base_model(run: RunDirectory) -> str | None:
    """The name of the run's base model if this node does not have it, else None."""
    spec = run.read_spec()
    return spec.base_model if BaseModelFolder(spec.base_folder).hf.missing() else None
