"""The verdict on an export: its own tool's log-probabilities against those that the trainer wrote in probes.json.

Every tool gets the trainer's own tokens before each position, so that all positions are compared, whatever it would
have said itself. The prompts are made by the exported tokenizer and chat template, and must be the trainer's tokens.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier import model_folder
from luthier.core.errors import UpstreamFailed
from luthier.core.exports import ExportDtype, ExportFormat, ExportParity
from luthier.data.rendering.renderer import Renderer
from luthier.engines import parity
from luthier.model_folder import CheckpointFolder
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer

TOP = 40
Likeliest = Sequence[tuple[int, float]]
"""Token ids with their log-probabilities in nats, likeliest first."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool with the export loaded: `prompt` makes a chat's token ids, `score` what comes next at so many last places.

    `score(tokens, n)` gives the TOP likeliest tokens after each of the last `n` of `tokens`.
    """

    name: str
    prompt: Callable[[Sequence[Mapping[str, Any]]], list[int]]
    score: Callable[[list[int], int], Sequence[Likeliest]]


@dataclass(frozen=True, slots=True)
class Bound:
    """What an export may differ by: nats at any compared token, nats in the mean, and the least `top` agreement."""

    largest: float
    mean: float
    top: float


TORCH_BOUNDS = {
    ExportDtype.F32: Bound(0.01, 0.001, 0.98),
    ExportDtype.BF16: Bound(0.75, 0.10, 0.90),
    ExportDtype.F16: Bound(0.06, 0.006, 0.95),
}
"""For plain transformers and peft, which compute in float32: what remains is the rounding of the stored weights."""
LLAMA_BOUNDS = {
    ExportDtype.F32: Bound(0.15, 0.015, 0.95),
    ExportDtype.F16: Bound(0.15, 0.015, 0.95),
    ExportDtype.BF16: Bound(0.75, 0.10, 0.90),
    ExportDtype.Q8_0: Bound(2.00, 0.30, 0.80),
}
"""For llama.cpp, which rounds activations as well: to the type of the weights that it multiplies them with."""


def bound_of(format: ExportFormat, dtype: ExportDtype, probes_dtype: str) -> Bound:
    """The bound for a format and its dtype; at least the engines' own if the trainer computed its probes in bf16."""
    is_torch = format in (ExportFormat.ADAPTER, ExportFormat.MERGED)
    bound = (TORCH_BOUNDS if is_torch else LLAMA_BOUNDS)[dtype]
    if probes_dtype == "float32":
        return bound
    coarse = parity.TOLERANCES["bfloat16"]
    return Bound(max(bound.largest, coarse), max(bound.mean, coarse * parity.MEAN_SHARE), min(bound.top, 0.8))


def probes_dtype(checkpoint_folder: Path) -> str:
    """The dtype in which the trainer computed the probes. Raises UpstreamFailed for a checkpoint without probes."""
    return str(_read(checkpoint_folder)["dtype"])


def prove(checkpoint_folder: Path, tool: Tool, bound: Bound) -> ExportParity:
    """Asks the tool every probe and compares. Raises UpstreamFailed, with figures, for an export beyond the bound."""
    content = _read(checkpoint_folder)
    renderer = Renderer(TorchFreeTokenizer(checkpoint_folder), 1)
    differences: list[float] = []
    agreeing = positions = 0
    for number, probe in enumerate(content["probes"], start=1):
        prompt = tool.prompt(probe["messages"])
        if prompt != renderer.token_ids(renderer.text_of_turns(probe["messages"], (), True)):
            text = f"the prompt of probe {number} has other tokens in {tool.name} than in the trainer"
            raise _failed(f"{text}: the exported tokenizer or chat template is read differently there")
        trained = probe["positions"]
        said = [position["token_id"] for position in trained]
        for likeliest, position in zip(tool.score(prompt + said[:-1], len(said)), trained, strict=True):
            differences += parity.position_differences(dict(likeliest), dict(position["top"]), likeliest[0][0])
            agreeing += likeliest[0][0] == position["token_id"]
            positions += 1
    figures = (*_figures(differences), bound.largest, bound.mean, agreeing / positions)
    return _judged(ExportParity(tool.name, positions, *figures), bound)


def _judged(report: ExportParity, bound: Bound) -> ExportParity:
    """The report itself. Raises UpstreamFailed, with its figures, if it is beyond the bound."""
    is_within = report.max_difference <= bound.largest and report.mean_difference <= bound.mean
    if not is_within or report.top_agreement < bound.top:
        raise _failed(
            f"in {report.tool} the log-probabilities differ by up to {report.max_difference:.4f} nats over "
            f"{report.positions} positions (mean {report.mean_difference:.4f}; tolerated are {bound.largest:g} and "
            f"{bound.mean:g}), and {report.top_agreement:.0%} of the likeliest tokens are the trainer's (at least "
            f"{bound.top:.0%})"
        )
    return report


def _figures(differences: Sequence[float]) -> tuple[float, float]:
    """The largest and the mean difference. NaN, which no bound admits, if one is NaN."""
    mean = sum(differences) / len(differences)
    return (max(differences) if mean == mean else mean), mean


def _read(checkpoint_folder: Path) -> Any:
    """probes.json. Raises UpstreamFailed if there is none, or no probe in it."""
    path = CheckpointFolder(checkpoint_folder).probes
    content = json.loads(path.read_bytes()) if path.exists() else {"probes": []}
    if not content["probes"]:
        raise _failed(f"the model comes without {model_folder.PROBES}, so nothing can be proven")
    return content


def _failed(reason: str) -> UpstreamFailed:
    """The error for an export that is not handed over because of `reason`."""
    return UpstreamFailed("parity_failed", f"The export is not the trained model, and was thrown away: {reason}.")
