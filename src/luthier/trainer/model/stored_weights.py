"""The weights that a job continues from, an adapter or all: checked before PEFT or safetensors read them.

Checkpoint retention reads a run's own checkpoints by `load`, too. InvalidRequest becomes the run's verdict.
"""

from pathlib import Path

import peft
import safetensors.torch
import torch
from torch import Tensor

from luthier import model_folder
from luthier.core.errors import InvalidRequest
from luthier.model_source import bounded_json, safetensors_header, source_checks

_NOT_OURS = ("auto_mapping", "megatron_config", "modules_to_save", "loftq_config", "eva_config", "corda_config")


def read_config(parent: Path) -> peft.LoraConfig:
    """The PEFT configuration of the parent's adapter, with its own rank and targets.

    Raises InvalidRequest for a file that is no plain LoRA, or could make PEFT read other files or run code.
    """
    path = source_checks.resolve_inside(parent, model_folder.ADAPTER_CONFIG)
    written = bounded_json.read_object(path)
    targets = written.get("target_modules")
    if (
        written.get("peft_type") != "LORA"
        or not isinstance(targets, list)
        or any(written.get(name) for name in _NOT_OURS)
        or not isinstance(written.get("init_lora_weights", True), bool)
    ):
        raise InvalidRequest(
            "parent_does_not_fit", "The model to go on from is no plain LoRA adapter, and cannot be gone on from."
        )
    config: peft.LoraConfig = peft.LoraConfig.from_pretrained(parent)
    return config


@torch.no_grad()
def load(parameters: dict[str, Tensor], path: Path) -> None:
    """Copies a safetensors file into the parameters, in place. Raises InvalidRequest if names or shapes differ."""
    shapes = {
        entry.name: entry.shape
        for entry in safetensors_header.read(source_checks.resolve_inside(path.parent, path.name))
    }
    if shapes != {name: tuple(parameter.shape) for name, parameter in parameters.items()}:
        raise InvalidRequest("parent_does_not_fit", "The model to go on from was tuned on another base model or shape.")
    tensors = safetensors.torch.load_file(path)
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def refuse_other_kind(path: Path) -> None:
    """Raises InvalidRequest if `path` is missing: the file that the parent has if it was tuned as this run tunes.

    An adapter cannot continue from tuned weights, nor they from an adapter.
    """
    if not path.exists():
        raise InvalidRequest(
            "parent_does_not_fit",
            "The model to go on from is of another kind: the catalog's entry says lora where all weights were tuned, "
            "or full where an adapter was. Start from the base model, or set the entry's tuning back.",
        )
