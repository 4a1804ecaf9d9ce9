"""How TRL is run: at its defaults, and in every way that may be fast on a processor without a graphics card."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class TrlOptions:
    """`rows` is what the trainer is given: chat messages, as users do, or tokens with the learned ones marked.

    `together` rows go through the model at once, and as often as a batch needs; None for the whole batch.
    """

    rows: str = "labels"
    together: int | None = None
    packed: bool = False
    dtype: str | None = "bfloat16"
    attention: str | None = None
    config: dict[str, Any] = field(default_factory=dict)


_NO_CHECKPOINTING = {"gradient_checkpointing": False}
_FLAT = {"gradient_checkpointing": False, "padding_free": True, "max_length": None}

DEFAULT = "trl"
BEST = "trl-best"

OPTIONS = {
    DEFAULT: TrlOptions(rows="messages", dtype=None),
    "trl-padded": TrlOptions(config=_NO_CHECKPOINTING),
    "trl-padded-2": TrlOptions(config=_NO_CHECKPOINTING, together=2),
    "trl-packed": TrlOptions(config=_NO_CHECKPOINTING, packed=True),
    "trl-flat": TrlOptions(config=_FLAT),
    "trl-flat-eager": TrlOptions(config=_FLAT, attention="eager"),
    "trl-flat-4": TrlOptions(config=_FLAT, together=4),
    "trl-flat-2": TrlOptions(config=_FLAT, together=2),
    "trl-flat-2-eager": TrlOptions(config=_FLAT, together=2, attention="eager"),
    "trl-flat-2-float32": TrlOptions(config=_FLAT, together=2, dtype=None),
    "trl-flat-2-no-autocast": TrlOptions(config=_FLAT | {"bf16": False}, together=2),
    "trl-single": TrlOptions(config=_NO_CHECKPOINTING, together=1),
    "trl-single-eager": TrlOptions(config=_NO_CHECKPOINTING, together=1, attention="eager"),
    "trl-single-no-autocast": TrlOptions(config=_NO_CHECKPOINTING | {"bf16": False}, together=1),
}
"""Packing chooses other rows for a step, so its losses are not comparable; its tokens are the same in all."""
