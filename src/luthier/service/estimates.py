"""What a run will come to before it begins: steps, tokens, time and memory on this machine, and its price."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from luthier import rates
from luthier.core import activations, hyperparameters
from luthier.core.activations import Shape, Way
from luthier.core.hyperparameters import Hyperparameters
from luthier.service.checks import Checked, Rules
from luthier.service.pricing import Price

FUSED_FAMILIES = frozenset({"llama", "mistral", "qwen2"})
"""Those that trainer/fused.py writes out, where a C++ compiler is; a test holds the two equal."""
TOKENS_OF_A_PASS = 2048
"""The trainer's TOKEN_BUDGET: a longer row goes alone."""
_PROCESS_BYTES = 650_000_000
"""A trainer's libraries, its machine code, its logits and its batches, measured with the embedded model."""
_BYTES_OF_ADAPTER = 16
"""Of each parameter of an adapter: itself, its gradient and two moments, four bytes each."""
_FLOPS_OF_A_CORE = (("amx_bf16", 290e9), ("avx512_bf16", 110e9), ("avx512f", 40e9), ("avx2", 25e9), ("", 10e9))
"""What training makes of a core by what its processor can: two measured (docs/benchmarks.md), the others guessed."""


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """`trained_tokens` counts every epoch. `seconds` and `peak_memory_bytes` are None where nothing tells them.

    `basis` says what the time follows from: "by an earlier run" on this machine, or "a guess by the processor".
    """

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    n_steps: int
    trained_tokens: int
    supervised_tokens: int
    seconds: float | None
    basis: str | None
    peak_memory_bytes: int | None
    price: float | None
    currency: str | None


def estimate(
    checked: Checked, rules: Rules, asked: Hyperparameters, data_folder: Path, price: Price | None
) -> RunEstimate | None:
    """The estimate for a file whose tokens were counted; None for others, and for one that cannot be trained on."""
    tokens = checked.tokens
    if tokens is None or rules.base is None or rules.base_folder is None or not checked.report.valid:
        return None
    n_examples = checked.report.n_examples
    chosen = hyperparameters.resolve(asked, n_examples, rules.method)
    trained = tokens.tokens.total * chosen.n_epochs
    known = rates.read(data_folder).get(rules.base.name)
    shape = _shape(rules.base_folder)
    seconds = None if shape is None else _guessed_seconds(shape, trained)
    if known is not None:
        seconds = trained * known.seconds / known.tokens
    longest = max(tokens.tokens.longest, min(TOKENS_OF_A_PASS, tokens.tokens.total))
    lora = rules.base.lora  # without one all weights are trained, and no formula here tells the memory of that
    memory = None if shape is None or lora is None else _peak(shape, rules.base_folder, longest, lora.rank)
    return RunEstimate(
        n_epochs=chosen.n_epochs,
        batch_size=chosen.batch_size,
        learning_rate_multiplier=chosen.learning_rate_multiplier,
        n_steps=math.ceil(n_examples / chosen.batch_size) * chosen.n_epochs,
        trained_tokens=trained,
        supervised_tokens=tokens.supervised.total * chosen.n_epochs,
        seconds=None if seconds is None else round(seconds, 1),
        basis=None if seconds is None else "a guess by the processor" if known is None else "by an earlier run",
        peak_memory_bytes=memory,
        price=None if price is None else price.of(trained),
        currency=None if price is None else price.currency,
    )


def in_words(found: RunEstimate) -> str:
    """One sentence for people."""
    words = [f"{found.n_steps:,} steps, {found.trained_tokens:,} tokens, {found.supervised_tokens:,} of them learned"]
    if found.seconds is not None:
        words.append(f"about {_duration(found.seconds)} ({found.basis})")
    if found.peak_memory_bytes is not None:
        words.append(f"about {found.peak_memory_bytes / 1e9:.1f} GB of memory")
    if found.price is not None:
        words.append(f"{found.price:,.4f} {found.currency}")
    epochs = "1 epoch" if found.n_epochs == 1 else f"{found.n_epochs} epochs"
    return f"A job: {epochs} in batches of {found.batch_size}, {'; '.join(words)}."


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _shape(base_folder: Path) -> Shape | None:
    try:
        return Shape.of(json.loads((base_folder / "hf" / "config.json").read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _guessed_seconds(shape: Shape, tokens: int) -> float | None:
    """By four operations a parameter and token, the head at learned places left out; None beside a GPU."""
    if Path("/dev/nvidiactl").exists():
        return None
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        flags = ""
    speed = next(flops for flag, flops in _FLOPS_OF_A_CORE if flag in flags)
    return 4.0 * shape.body_parameters * tokens / (speed * (os.cpu_count() or 1))


def _peak(shape: Shape, base_folder: Path, longest: int, rank: int) -> int | None:
    """The weights as they lie there, a full pass's activations, the adapter with its optimizer, and the process."""
    weights = sum(path.stat().st_size for path in (base_folder / "hf").glob("*.safetensors"))
    if not weights:
        return None
    way = Way.FUSED if shape.family in FUSED_FAMILIES else Way.MODULES
    kept = activations.kept_bytes(shape, longest, way, 2)
    widths = 4 * shape.hidden + 2 * shape.queries + 2 * shape.keys + 3 * (shape.hidden + shape.intermediate)
    adapter = shape.layers * rank * widths * _BYTES_OF_ADAPTER
    return _PROCESS_BYTES + weights + kept + adapter
