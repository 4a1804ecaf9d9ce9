"""Checkpoints: a folder per epoch with all that a deployment needs, written atomically.

A checkpoint without probes.json and meta.json is "held": docs/run-directory.md says why there are such.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import peft
import safetensors.torch
from torch import Tensor

from luthier import manifest, model_folder
from luthier.atomic_io import fsync_path, make_folder, write_durably
from luthier.core.errors import InvalidRequest
from luthier.core.states import Tuning
from luthier.model_folder import BaseModelFolder, CheckpointFolder, folder_name
from luthier.run_directory.run_directory import RunDirectory
from luthier.trainer.model import tuned_model
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.run import model_card
from luthier.trainer.run.provenance import Origin


def is_complete(run: RunDirectory, folder: str) -> bool:
    """Whether the folder of this name is a complete checkpoint."""
    return CheckpointFolder(run.checkpoints / folder).is_complete


def is_held(run: RunDirectory, folder: str) -> bool:
    """Whether the folder has everything but its probes and `meta.json`; True of a complete checkpoint, too."""
    return CheckpointFolder(run.checkpoints / folder).is_held


def save(
    run: RunDirectory,
    tuned: TunedModel,
    origin: Origin,
    probes_json: bytes,
    step: int,
    epoch: int,
    metrics: Mapping[str, float],
) -> None:
    """Writes the checkpoint of a step atomically; completes a held one, and leaves a complete one as it is.

    `metrics` are those of Metrics.figures. Raises InvalidRequest (training_diverged) for a model with NaN or infinite
    values, NoSpace on a full disk.
    """
    if is_complete(run, folder_name(step)):
        return
    if is_held(run, folder_name(step)):
        complete_held(run, origin, probes_json, step, epoch, metrics)
    else:
        folder, adapter_sha256 = _write(run, tuned, origin, step, epoch, metrics)
        _seal(folder, origin, probes_json, adapter_sha256, step, epoch, metrics)
        _rename(folder, run.checkpoints / folder_name(step))


def hold(
    run: RunDirectory, tuned: TunedModel, origin: Origin, step: int, epoch: int, metrics: Mapping[str, float]
) -> None:
    """Writes a folder as `save` does but without probes and `meta.json`: no checkpoint yet.

    An existing one is left as it is. Raises as `save` does.
    """
    if not is_held(run, folder_name(step)):
        folder, _ = _write(run, tuned, origin, step, epoch, metrics)
        _rename(folder, run.checkpoints / folder_name(step))


def complete_held(
    run: RunDirectory, origin: Origin, probes_json: bytes, step: int, epoch: int, metrics: Mapping[str, float]
) -> None:
    """Completes a held checkpoint by probes and `meta.json`; its bytes are then those that `save` would write."""
    folder = run.checkpoints / folder_name(step)
    adapter_sha256 = manifest.sha256_of(CheckpointFolder(folder).tuned_weights)
    _seal(folder, origin, probes_json, adapter_sha256, step, epoch, metrics)


def _write(
    run: RunDirectory, tuned: TunedModel, origin: Origin, step: int, epoch: int, metrics: Mapping[str, float]
) -> tuple[Path, str]:
    """Writes all files but probes and `meta.json` to a temporary folder; returns it and the trained weights' sha256.

    Raises InvalidRequest for values that are not finite.
    """
    base_model, hf = origin.spec.base_model, BaseModelFolder(origin.spec.base_folder).hf.path
    tensors = tuned_model.saved_tensors(tuned)
    _refuse_without_numbers(tensors, step)
    make_folder(run.checkpoints)
    folder = run.checkpoints / f".{folder_name(step)}.tmp"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    weights = safetensors.torch.save(tensors, metadata={"format": "pt"})
    checkpoint = CheckpointFolder(folder)
    if tuned.adapter_config is None:
        write_durably(checkpoint.hf.weights, weights)
    else:
        write_durably(checkpoint.adapter_weights, weights)
        write_durably(
            checkpoint.adapter_config, _adapter_config(tuned.adapter_config, origin.spec.base_repository or base_model)
        )
    for name in (
        *model_folder.PROMPT_FILES,
        *(model_folder.MODEL_CONFIG_FILES if origin.spec.tuning is Tuning.FULL else ()),
    ):
        if (hf / name).exists():
            write_durably(folder / name, (hf / name).read_bytes())
    made = origin.manifest(step, epoch, hashlib.sha256(weights).hexdigest())
    write_durably(checkpoint.manifest, made.to_bytes())
    write_durably(checkpoint.model_card, model_card.render(made, metrics))
    return folder, made.files.adapter


def _seal(
    folder: Path,
    origin: Origin,
    probes_json: bytes,
    adapter_sha256: str,
    step: int,
    epoch: int,
    metrics: Mapping[str, float],
) -> None:
    """Writes the probes and, last, `meta.json`, which makes the folder a checkpoint. Raises NoSpace."""
    write_durably(CheckpointFolder(folder).probes, probes_json)
    meta = {
        "version": 1,
        "step": step,
        "epoch": epoch,
        "metrics": dict(metrics),
        "base_model": origin.spec.base_model,
        "adapter_sha256": adapter_sha256,
    }
    write_durably(CheckpointFolder(folder).meta, _json(meta))


def _rename(folder: Path, final: Path) -> None:
    """Moves a finished folder to its final name, replacing what is there, and waits until the name is on disk."""
    shutil.rmtree(final, ignore_errors=True)
    folder.rename(final)
    fsync_path(final.parent)


def drop(run: RunDirectory, folders: Sequence[str]) -> None:
    """Deletes these checkpoints, and the temporary folders that a crash during a save left; ignores missing ones."""
    for name in folders:
        shutil.rmtree(run.checkpoints / name, ignore_errors=True)
    for leftover in run.checkpoints.glob(".*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def _refuse_without_numbers(tensors: Mapping[str, Tensor], step: int) -> None:
    """Raises InvalidRequest, for the job's owner, if a tensor has NaN or infinite values: the run has diverged."""
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise InvalidRequest(
            "training_diverged",
            f"The model after step {step} holds values that are no numbers. Lower learning_rate_multiplier and "
            "start a new job.",
            param="hyperparameters.learning_rate_multiplier",
        )


def _adapter_config(recipe: peft.LoraConfig, base: str) -> bytes:
    """PEFT's adapter_config.json; `base` is the base's hub id or its name here, never a path of this machine."""
    config = dict(recipe.to_dict())
    config["base_model_name_or_path"] = base
    config["inference_mode"] = True
    # Sets have another order in each process; the file must not.
    return _json({key: sorted(value) if isinstance(value, set) else value for key, value in config.items()})


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"
