"""The model that a job goes on from: its files judged before PEFT or safetensors read them."""

from pathlib import Path

import peft
import safetensors.torch
import torch
from torch import Tensor

from luthier import model_folder
from luthier.core.errors import InvalidRequest
from luthier.model_source import admission, bounded_json, safetensors_header

_NOT_OURS = ("auto_mapping", "megatron_config", "modules_to_save", "loftq_config", "eva_config", "corda_config")


def read_config(parent: Path) -> peft.LoraConfig:
    """The adapter's own shape. Raises InvalidRequest for a file that could make PEFT read others, or run code."""
    path = admission.resolve_inside(parent, model_folder.ADAPTER_CONFIG)
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
    """Fills the parameters from a file that has just these. Raises InvalidRequest."""
    shapes = {
        entry.name: entry.shape for entry in safetensors_header.read(admission.resolve_inside(path.parent, path.name))
    }
    if shapes != {name: tuple(parameter.shape) for name, parameter in parameters.items()}:
        raise InvalidRequest("parent_does_not_fit", "The model to go on from was tuned on another base model or shape.")
    tensors = safetensors.torch.load_file(path)
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def refuse_other_kind(path: Path) -> None:
    """An adapter cannot go on from tuned weights, nor they from an adapter."""
    if not path.exists():
        raise InvalidRequest(
            "parent_does_not_fit",
            "The model to go on from is of another kind: the catalog's entry says lora where all weights were tuned, "
            "or full where an adapter was. Start from the base model, or set the entry's tuning back.",
        )
