"""Merged weights: W + scale * B A for each linear layer that an adapter changes, computed in float32 when it is read.

W are the stored bf16 weights that were trained on: for a base in few bits those on its grid (docs/decisions/0009).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from luthier.core.errors import InvalidRequest, Unsupported
from luthier.engines.gguf import export, safetensors_file
from luthier.engines.gguf.safetensors_file import FloatArray, Tensor
from luthier.model_folder import CheckpointFolder


@dataclass(frozen=True, slots=True)
class MergedTensor:
    """A base's weight [O, I] with an adapter's product added: A is [R, I], B is [O, R]."""

    base: Tensor
    lora_a: Tensor
    lora_b: Tensor
    scale: float

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.shape

    def read(self) -> FloatArray:
        """The sum in float32, not rounded."""
        values_OI = self.base.read()
        values_OI += (self.lora_b.read() * self.scale) @ self.lora_a.read()
        return values_OI


def merged_weights(hf: Path, adapter_folder: Path) -> dict[str, Tensor]:
    """The weights of the base in `hf`, by name, with the adapter in them; nothing but headers is read yet.

    Raises Unsupported for an adapter that is no plain LoRA or rsLoRA, InvalidRequest for one that does not fit the base
    or for damaged files.
    """
    adapter = CheckpointFolder(adapter_folder)
    config = json.loads(adapter.adapter_config.read_bytes())
    export.check_adapter(config)
    scale = export.lora_scale(config)
    weights: dict[str, Tensor] = dict(safetensors_file.weights_of(hf))
    for module, (lora_a, lora_b) in _pairs(adapter.adapter_weights).items():
        base = weights.get(f"{module}.weight")
        if base is None or base.shape != (lora_b.shape[0], lora_a.shape[1]) or lora_a.shape[0] != lora_b.shape[1]:
            raise InvalidRequest("adapter_does_not_fit", f"The adapter has weights for {module}, which do not fit it.")
        weights[f"{module}.weight"] = MergedTensor(base, lora_a, lora_b, scale)
    return weights


def _pairs(adapter_weights: Path) -> Mapping[str, tuple[Tensor, Tensor]]:
    """A and B of each module of the adapter. Raises Unsupported for other tensors, or one without its other half."""
    halves: dict[str, dict[str, Tensor]] = {}
    for tensor in safetensors_file.tensors_of(adapter_weights):
        key = export.LORA_KEY.fullmatch(tensor.name)
        if key is None or key[1] in ("lm_head", "model.embed_tokens"):
            text = f"The adapter has weights for {tensor.name}, which cannot be merged."
            raise Unsupported("unsupported_adapter", text)
        halves.setdefault(key[1], {})[key[2]] = tensor
    for module, pair in halves.items():
        if len(pair) != 2:
            raise Unsupported("unsupported_adapter", f"The adapter has only one of A and B for {module}.")
    return {module: (pair["A"], pair["B"]) for module, pair in halves.items()}
