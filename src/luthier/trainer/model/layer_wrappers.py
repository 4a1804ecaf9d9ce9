"""Wrappers of decoder layers: code compiled by torch on a GPU, activation checkpointing where memory is short."""

import importlib.util
from typing import Any

import torch
import torch._dynamo
from torch.utils import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

COMPILE_FLOPS = 5e16
"""A run of at least so many operations is compiled: some minutes of a large GPU, against a minute of compiling."""


def wrap(backbone: torch.nn.Module, recompute: bool, compiled: bool, random: bool, backend: Any = "inductor") -> None:
    """Replaces the forward of every decoder layer of `backbone`; `random` says that the layers draw dropout.

    `recompute` is activation checkpointing. With `compiled` layers go through torch.compile one by one, by `backend`:
    they are equal, so one compilation does for all; torch's errors in it are then suppressed in the whole process.
    """
    if compiled:
        # What cannot be compiled (no C compiler for triton, a model that defies tracing) runs as it is, with a warning.
        torch._dynamo.config.suppress_errors = True
    for layer in list(backbone.modules()):
        if isinstance(layer, GradientCheckpointingLayer):
            layer.forward = _forward(layer.forward, recompute, random, backend if compiled else None)


def compilation_pays(device: torch.device, n_parameters: int, n_tokens: int) -> bool:
    """Whether a run over so many tokens, of all epochs, is worth compiling for: long, on a GPU with triton."""
    long = 6.0 * n_parameters * n_tokens >= COMPILE_FLOPS
    return device.type == "cuda" and long and importlib.util.find_spec("triton") is not None


def _forward(plain: Any, recompute: bool, random: bool, backend: Any) -> Any:
    """The forward that takes the place of `plain`; `backend` None leaves it uncompiled."""
    fast = plain if backend is None else torch.compile(plain, dynamic=True, backend=backend)

    def forward(*args: Any, **kwargs: Any) -> Any:
        """Calls the layer: as it was without gradients, else compiled and checkpointed as asked."""
        if not torch.is_grad_enabled():
            return plain(*args, **kwargs)
        # Segments as Python objects would be compiled for anew with each batch; lengths are tensors and numbers.
        function = fast if "cu_seq_lens_q" in kwargs else plain
        if recompute:
            return checkpoint.checkpoint(function, *args, use_reentrant=False, preserve_rng_state=random, **kwargs)
        return function(*args, **kwargs)

    return forward
