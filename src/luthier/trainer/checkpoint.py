"""Checkpoints: a folder per epoch with all that a deployment needs, whole or absent."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence

import peft
import safetensors.torch
from torch import Tensor

from luthier import manifest
from luthier.core.errors import InvalidRequest
from luthier.durable import make_folder, sync_folder, write_durably
from luthier.run_directory import RunDirectory
from luthier.trainer import card, model, probes, tokenizer
from luthier.trainer.manifest import Origin
from luthier.trainer.model import Tuned

_WHOLE_MODEL = ("config.json", "generation_config.json")
"""What weights need beside them to be a model without the base's folder."""

META = "meta.json"
"""Written last: a folder without it is no checkpoint."""


def folder_name(step: int) -> str:
    return f"step-{step:06d}"


def is_whole(run: RunDirectory, folder: str) -> bool:
    return (run.checkpoints / folder / META).is_file()


def save(
    run: RunDirectory,
    tuned: Tuned,
    origin: Origin,
    probes_json: bytes,
    step: int,
    epoch: int,
    metrics: Mapping[str, float],
) -> None:
    """Writes `checkpoints/step-…` under a temporary name, on disk, then renames it. One that is whole is left alone.

    Raises InvalidRequest for a model with values that are no numbers: the last update may have been one too many.
    """
    base_model, hf = origin.spec.base_model, origin.spec.base_folder / "hf"
    final = run.checkpoints / folder_name(step)
    if is_whole(run, final.name):
        return
    tensors = model.saved_tensors(tuned)
    _refuse_without_numbers(tensors, step)
    make_folder(run.checkpoints)
    shutil.rmtree(final, ignore_errors=True)
    folder = run.checkpoints / f".{final.name}.tmp"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    weights = safetensors.torch.save(tensors, metadata={"format": "pt"})
    if tuned.config is None:
        write_durably(folder / manifest.MODEL_FILE, weights)
    else:
        write_durably(folder / manifest.ADAPTER_FILE, weights)
        write_durably(folder / "adapter_config.json", _adapter_config(tuned.config, base_model))
    for name in (*tokenizer.FILES, *(_WHOLE_MODEL if tuned.config is None else ())):
        if (hf / name).exists():
            write_durably(folder / name, (hf / name).read_bytes())
    write_durably(folder / probes.FILE, probes_json)
    made = origin.manifest(step, epoch, hashlib.sha256(weights).hexdigest())
    write_durably(folder / manifest.FILE, made.to_bytes())
    write_durably(folder / card.FILE, card.render(made, metrics))
    meta = {
        "version": 1,
        "step": step,
        "epoch": epoch,
        "metrics": dict(metrics),
        "base_model": base_model,
        "adapter_sha256": made.files.adapter,
    }
    write_durably(folder / META, _json(meta))
    folder.rename(final)
    sync_folder(run.checkpoints)


def drop(run: RunDirectory, folders: Sequence[str]) -> None:
    """Deletes checkpoints that made way, and what a crash in the middle of a save left."""
    for name in folders:
        shutil.rmtree(run.checkpoints / name, ignore_errors=True)
    for leftover in run.checkpoints.glob(".*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def _refuse_without_numbers(tensors: Mapping[str, Tensor], step: int) -> None:
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise InvalidRequest(
            "training_diverged",
            f"The model after step {step} holds values that are no numbers. Lower learning_rate_multiplier and "
            "start a new job.",
            param="hyperparameters.learning_rate_multiplier",
        )


def _adapter_config(recipe: peft.LoraConfig, base_model: str) -> bytes:
    """PEFT's own configuration file, with the base's public name in place of a path of this machine."""
    config = dict(recipe.to_dict())
    config["base_model_name_or_path"] = base_model
    config["inference_mode"] = True
    # Sets have another order in each process; the file must not.
    return _json({key: sorted(value) if isinstance(value, set) else value for key, value in config.items()})


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"
