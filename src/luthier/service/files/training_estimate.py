"""The estimate of a run before it starts: steps, tokens, time and memory on this machine, and the price."""

import json
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from luthier.catalog import BaseModelEntry
from luthier.core.errors import NoSpace
from luthier.core.states import Tuning
from luthier.core.training import activation_memory, hyperparameters
from luthier.core.training.activation_memory import FUSED_FAMILIES, TOKEN_BUDGET, ActivationMode, DecoderShape
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.core.training.pricing import Price
from luthier.model_folder import BaseModelFolder
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Metrics, Started, Succeeded
from luthier.service.files import throughput_history
from luthier.service.files.data_check import Checked, Rules
from luthier.service.files.throughput_history import RunRecord

_PROCESS_BYTES = 650_000_000
"""A trainer's libraries, its machine code, its logits and its batches, measured with the embedded model."""
_BYTES_OF_ADAPTER = 16
"""Per parameter of an adapter: weight, gradient and two moments, four bytes each."""
_START_S = 8.0
"""From the spec to the first step: imports, the hash of the base weights, loading."""
_STEP_S_A_LAYER = 0.008
"""The minimum per step: matrix products too small for the cores, the optimizer, the row and the event."""
_TOKENS_OF_PROBES = 2000
"""The cost of probes in trained tokens: they are computed in float32, most of them token by token."""
_KEPT_CHECKPOINTS = 4
"""The three newest checkpoints and the best one."""
_LONGEST_START_S = 600.0
"""Between the spec and the first step; anything longer included a wait, such as a pause."""
_FLOPS_OF_A_CORE = (("amx_bf16", 290e9), ("avx512_bf16", 110e9), ("avx512f", 40e9), ("avx2", 25e9), ("", 10e9))
"""FLOP/s per core in training, by instruction set: two measured (docs/benchmarks.md), the others guessed."""


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """What a run is expected to take. `trained_tokens` counts every epoch.

    `seconds` and `peak_memory_bytes` are None if they cannot be estimated, `price` and `currency` if none is charged.
    `seconds` are from the trainer's start to its verdict: loading, tokenizing, steps, validation, checkpoints. `basis`
    says how they were estimated: "by 3 earlier runs" on this machine, or "a guess by the processor".
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
    checked: Checked, rules: Rules, requested: Hyperparameters, data_folder: Path, price: Price | None
) -> RunEstimate | None:
    """The estimate for a file whose tokens were counted; None for others, and for one that cannot be trained on.

    Reads the base model's folder and the recorded runs of this machine; writes nothing.
    """
    tokens = checked.tokens
    if tokens is None or rules.base is None or rules.base_folder is None or not checked.report.valid:
        return None
    n_examples = checked.report.n_examples
    resolved = hyperparameters.resolve(requested, n_examples, rules.method)
    trained = tokens.tokens.total * resolved.n_epochs
    n_steps = math.ceil(n_examples / resolved.batch_size) * resolved.n_epochs
    shape = _shape(rules.base_folder)
    pace = throughput_history.pace(
        throughput_history.read_records(data_folder).get(_kind(rules.base), []), trained / n_steps
    )
    seconds: float | None
    if pace is not None:
        seconds, basis = pace.seconds(trained, resolved.n_epochs), f"by {pace.runs} earlier run{'s' * (pace.runs > 1)}"
    else:
        seconds = None if shape is None else _guessed_seconds(shape, trained, n_steps, resolved.n_epochs)
        basis = "a guess by the processor"
    longest = max(tokens.tokens.longest, min(TOKEN_BUDGET, tokens.tokens.total))
    lora = rules.base.lora  # without one all weights are trained, and no formula here tells the memory of that
    memory = None if shape is None or lora is None else _peak(shape, rules.base_folder, longest, lora.rank)
    return RunEstimate(
        n_epochs=resolved.n_epochs,
        batch_size=resolved.batch_size,
        learning_rate_multiplier=resolved.learning_rate_multiplier,
        n_steps=n_steps,
        trained_tokens=trained,
        supervised_tokens=tokens.supervised.total * resolved.n_epochs,
        seconds=None if seconds is None else round(seconds, 1),
        basis=None if seconds is None else basis,
        peak_memory_bytes=memory,
        price=None if price is None else price.cost(trained),
        currency=None if price is None else price.currency,
    )


def in_words(run: RunEstimate) -> str:
    """The estimate as one sentence for people; what is None is left out."""
    words = [f"{run.n_steps:,} steps, {run.trained_tokens:,} tokens, {run.supervised_tokens:,} of them supervised"]
    if run.seconds is not None:
        words.append(f"about {_duration(run.seconds)} ({run.basis})")
    if run.peak_memory_bytes is not None:
        words.append(f"about {run.peak_memory_bytes / 1e9:.1f} GB of memory")
    if run.price is not None:
        words.append(f"{run.price:,.4f} {run.currency}")
    epochs = "1 epoch" if run.n_epochs == 1 else f"{run.n_epochs} epochs"
    return f"A job: {epochs} in batches of {run.batch_size}, {'; '.join(words)}."


def _duration(seconds: float) -> str:
    """Seconds in a unit that suits their number: "40 s", "12 min", "2.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _shape(base_folder: Path) -> DecoderShape | None:
    """The dimensions of the base model's decoder, from config.json; None if it cannot be read or is of another kind."""
    try:
        return DecoderShape.from_config(json.loads(BaseModelFolder(base_folder).hf.config.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def record_throughput(data_folder: Path, run: RunDirectory, verdict: Succeeded) -> None:
    """Records the throughput of a run that has succeeded, for estimates on this machine; on a full disk nothing.

    A run that started before its spec was last written was resumed: its duration says nothing about a complete run.
    """
    spec = run.read_spec()
    events = [event for event, _ in run.tail()]
    steps = [event for event in events if isinstance(event, Metrics)]
    started = next((event.at for event in events if isinstance(event, Started)), None)
    spec_written_at = run.spec.stat().st_mtime
    if not steps or started is None or started < spec_written_at:
        return
    record = RunRecord(
        verdict.trained_tokens,
        verdict.seconds,
        verdict.peak_memory_bytes,
        steps=len(steps),
        epochs=max(1, round(len(steps) / steps[-1].n_steps * spec.n_epochs)),
        step_seconds=sum(step.seconds or 0.0 for step in steps),
        start_seconds=min(started - spec_written_at, _LONGEST_START_S),
    )
    name = throughput_history.kind(
        spec.base_model, full=spec.tuning is Tuning.FULL, dropout=spec.dropout > 0, gpu=_has_gpu()
    )
    with suppress(NoSpace, OSError):
        throughput_history.add_record(data_folder, name, record)


def _kind(base: BaseModelEntry) -> str:
    """The kind of a run on this base, with its own tuning and on this machine, in the throughput history."""
    full = base.tuning is Tuning.FULL
    dropout = not full and base.lora is not None and base.lora.dropout > 0
    return throughput_history.kind(base.name, full=full, dropout=dropout, gpu=_has_gpu())


def _has_gpu() -> bool:
    """Whether an NVIDIA driver is loaded: its device file exists."""
    return Path("/dev/nvidiactl").exists()


def _guessed_seconds(shape: DecoderShape, tokens: int, n_steps: int, n_epochs: int) -> float | None:
    """The seconds of a run by four operations per parameter and token, without the head; None if there is a GPU.

    Plus the start, the minimum per step, and the probes of the checkpoints that are kept. The present load of the
    machine is taken into account. `tokens` are those of all epochs.
    """
    if _has_gpu():
        return None
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        flags = ""
    cores = os.cpu_count() or 1
    speed = next(flops for flag, flops in _FLOPS_OF_A_CORE if flag in flags) * cores
    computed = tokens + _TOKENS_OF_PROBES * min(n_epochs, _KEPT_CHECKPOINTS)
    steps = 4.0 * shape.body_parameters * computed / speed + n_steps * shape.layers * _STEP_S_A_LAYER
    return (_START_S + steps) * (1 + os.getloadavg()[0] / cores)


def _peak(shape: DecoderShape, base_folder: Path, longest: int, rank: int) -> int | None:
    """The peak memory in bytes: the weights on disk, the activations of a full micro-batch (`longest` tokens), the
    adapter with its optimizer, and the process. None if the folder has no weights.
    """
    weights = sum(path.stat().st_size for path in BaseModelFolder(base_folder).hf.path.glob("*.safetensors"))
    if not weights:
        return None
    way = ActivationMode.FUSED if shape.family in FUSED_FAMILIES else ActivationMode.MODULES
    activations = activation_memory.saved_activation_bytes(shape, longest, way, 2)
    widths = 4 * shape.hidden + 2 * shape.queries + 2 * shape.keys + 3 * (shape.hidden + shape.intermediate)
    adapter = shape.layers * rank * widths * _BYTES_OF_ADAPTER
    return _PROCESS_BYTES + weights + activations + adapter
