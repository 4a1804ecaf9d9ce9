"""A frozen base whose layers are shared out over the ranks (FSDP2): each gathers a layer when it computes it.

The adapter stays whole in every rank, a plain tensor, so gradients, checkpoints and resume points are those of any
other run. Embeddings, the last norm and the head stay whole too: the loss reads the head's weight by itself.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor


def move_all_but_layers(causal: Any, device: torch.device) -> None:
    """Moves a model to a device without its decoder layers, for which it has no room: `shard_layers` moves shares."""
    decoder = causal.get_decoder()
    layers, decoder.layers = decoder.layers, nn.ModuleList()
    causal.to(device)
    decoder.layers = layers


def shard_layers(causal: Any, adapter: Iterable[Tensor], device: torch.device, n_ranks: int) -> None:
    """Leaves each rank its share of every frozen weight of the layers, in place; the `adapter` becomes whole on
    `device`.

    All ranks call it, and from then on make each pass through the model at the same time.
    """
    mesh = init_device_mesh(device.type, (n_ranks,))
    decoder = causal.get_decoder()
    for parameter in adapter:
        parameter.data = parameter.data.to(device)
    whole = {parameter for parameter in decoder.parameters() if parameter.requires_grad}
    for layer in decoder.layers:
        fully_shard(layer, mesh=mesh, ignored_params=whole)
    # The root plans which layer is gathered next; without it each layer would be its own, and would stay gathered.
    rest = {parameter for parameter in decoder.parameters() if not isinstance(parameter, DTensor)}
    fully_shard(decoder, mesh=mesh, ignored_params=rest)
