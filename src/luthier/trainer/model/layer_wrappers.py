"""What goes round each decoder layer: compiled code on a GPU, and activations computed again where memory is short."""

import importlib.util
from typing import Any

import torch
import torch._dynamo
from torch.utils import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

COMPILE_FLOPS = 5e16
"""A run of at least so many operations is compiled: some minutes of a large GPU, against a minute of compiling."""


def wrap(backbone: torch.nn.Module, recompute: bool, compiled: bool, random: bool, backend: Any = "inductor") -> None:
    """Gives every decoder layer of `backbone` a forward that does so; `random` where the layers draw dropout.

    Layers are compiled one by one, by torch.compile's `backend`: they are equal, so one compilation does for all.
    """
    if compiled:
        # What cannot be compiled (no C compiler for triton, a model that defies tracing) runs as it is, with a warning.
        torch._dynamo.config.suppress_errors = True
    for layer in list(backbone.modules()):
        if isinstance(layer, GradientCheckpointingLayer):
            layer.forward = _forward(layer.forward, recompute, random, backend if compiled else None)


def compilation_pays(device: torch.device, n_parameters: int, n_tokens: int) -> bool:
    """Whether a run of so many tokens on this device is worth compiling for, and can be."""
    long = 6.0 * n_parameters * n_tokens >= COMPILE_FLOPS
    return device.type == "cuda" and long and importlib.util.find_spec("triton") is not None


def _forward(plain: Any, recompute: bool, random: bool, backend: Any) -> Any:
    fast = plain if backend is None else torch.compile(plain, dynamic=True, backend=backend)

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return plain(*args, **kwargs)
        # Segments as Python objects would be compiled for anew with each batch; lengths are tensors and numbers.
        function = fast if "cu_seq_lens_q" in kwargs else plain
        if recompute:
            return checkpoint.checkpoint(function, *args, use_reentrant=False, preserve_rng_state=random, **kwargs)
        return function(*args, **kwargs)

    return forward
