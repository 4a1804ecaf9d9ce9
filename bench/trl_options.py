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
    "trl-flat": TrlOptions(config=_FLAT),
    "trl-flat-eager": TrlOptions(config=_FLAT, attention="eager"),
    "trl-flat-float32": TrlOptions(config=_FLAT, dtype=None),
    "trl-flat-no-autocast": TrlOptions(config=_FLAT | {"bf16": False}),
    "trl-flat-2": TrlOptions(config=_FLAT, together=2),
    "trl-single": TrlOptions(config=_NO_CHECKPOINTING, together=1),
    "trl-single-eager": TrlOptions(config=_NO_CHECKPOINTING, together=1, attention="eager"),
    "trl-packed": TrlOptions(config=_NO_CHECKPOINTING, packed=True),
}
"""Packing chooses other rows for a step, so its losses are not comparable; its tokens are the same in all."""
