"""LoRA adapters in PEFT's layout as a decoder takes them, from a checkpoint's safetensors as it is."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from luthier.core.errors import Unavailable
from luthier.engines.native.decoder import tensors, weights
from luthier.engines.native.decoder.library import Decoder, Module
from luthier.engines.native.decoder.model_config import Unsupported
from luthier.model_folder import CheckpointFolder

_NAME = re.compile(r"base_model\.model\.model\.layers\.(\d+)\.(\w+\.\w+)\.lora_([AB])\.weight")


def load_adapter(decoder: Decoder, folder: CheckpointFolder) -> int:
    """Reads an adapter into the decoder and returns its number there.

    Raises Unavailable for one that this engine cannot apply, OSError, and ValueError or KeyError for a damaged one.
    """
    config = json.loads(folder.adapter_config.read_bytes())
    if config.get("use_dora") or config.get("bias", "none") != "none" or config.get("modules_to_save"):
        raise _not_supported("it has parts beyond LoRA matrices")
    if config.get("alpha_pattern"):
        raise _not_supported("its modules have an alpha each")
    try:
        pairs = _read_pairs(decoder, folder)
    except Unsupported as error:
        raise _not_supported(str(error)) from None
    adapter = decoder.add_adapter()
    for (layer, module), (a, b) in pairs.items():
        decoder.set_low_rank(adapter, layer, module, _scale(config, a.shape[0]), a, b)
    return adapter


def _scale(config: Mapping[str, Any], rank: int) -> float:
    """PEFT's scaling: alpha over the module's own rank, or over its square root."""
    return float(config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _read_pairs(decoder: Decoder, folder: CheckpointFolder) -> dict[tuple[int, Module], tuple[Any, Any]]:
    """A [rank, inputs] and B [outputs, rank] of each module, by layer and module, in float32.

    Raises Unsupported for tensors that are missing, or no such matrix.
    """
    found = tensors.read_tensors(folder.adapter_weights)
    pairs: dict[tuple[int, Module], tuple[Any, Any]] = {}
    for name, tensor in found.items():
        parts = _NAME.fullmatch(name)
        module = None if parts is None else weights.MODULES.get(parts[2])
        if parts is None or module is None or int(parts[1]) >= decoder.shape.n_layers:
            raise Unsupported(f"its tensor {name} is of no module that this engine knows")
        if parts[3] == "B":
            continue
        outputs, inputs = weights.sizes_of(decoder.shape, module)
        rank = tensor.values.shape[0]
        a = tensors.take(found, name, rank, inputs)
        b = tensors.take(found, name.replace("lora_A", "lora_B"), outputs, rank)
        pairs[int(parts[1]), module] = (a.floats(), b.floats())
    if len(found) != 2 * len(pairs):
        raise Unsupported("a matrix of it has no other half")
    return pairs


def _not_supported(why: str) -> Unavailable:
    """The error for an adapter that cannot be applied here; `why` ends its sentence."""
    return Unavailable("adapter_not_supported", f"The adapter cannot be served: {why}.")
