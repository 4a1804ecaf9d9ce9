"""Proves served = trained: the engine's log-probabilities against those that the trainer wrote in probes.json.

The engine is asked as users ask it: template, tokenizer, weights and adapter are proven together. `check_parity` is the
service's core.engine_ports.ParityCheck.
"""

import json
import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2

from luthier import model_folder
from luthier.core.engine_ports import Address, ParityReport
from luthier.core.errors import Unavailable
from luthier.engines.embeddings import embedding_parity
from luthier.engines.native import probing as native_probing
from luthier.engines.remote import remote_probing
from luthier.model_folder import CheckpointFolder

TOLERANCES = {"float32": 0.15, "bfloat16": 1.5}
"""Nats between two log-probabilities, by the dtype in which the trainer computed the probes.

Measured on smollm2-135m-instruct (docs/serving.md): float32 at most 0.025 for the base and 0.044 for tuned adapters,
mean 0.003 and 0.004; bfloat16 0.24 and 0.62, mean 0.05 and 0.07. llama.cpp multiplies f16 weights by f16 activations.
"""
MEAN_SHARE = 0.1
"""The mean difference may be this share of the tolerance: small errors everywhere (a wrong scale) show in the mean."""
COMPARED = 5
"""So many of the trainer's likeliest tokens are compared at each position, those above MIN_LOGPROB."""
MIN_LOGPROB = -6.9
"""A probability of 0.001: below it, rounding moves the logarithm of what hardly ever is said."""
ENGINE_TOP = 40
FAINT = 0.1
"""Nats: an adapter whose base is so near to it changes too little for an engine in bf16 to tell them apart."""
NEARER = 0.6
"""A tuned model's mean difference is at most this share of its base's: measured 0.11 for vLLM in bf16 after 4 steps."""
MAX_SPLIT = 4
"""So many bytes has the longest character of UTF-8, and so many tokens at most."""
_TIMEOUT_S = 300.0

Logprobs = Mapping[int, float]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Findings:
    """What the probes have shown so far: absolute differences of log-probabilities in nats, and positions compared."""

    differences: list[float] = field(default_factory=list)
    positions: int = 0
    fault: str = ""
    """Why no comparison of numbers is possible at all; empty as long as it is."""

    @property
    def mean(self) -> float:
        """The mean difference; 0 if nothing was compared."""
        return sum(self.differences) / len(self.differences) if self.differences else 0.0


def check_parity(address: Address, folder: Path, n_probes: int | None = None) -> ParityReport:
    """Asks the probes of `folder` greedily and compares position by position for as long as both continue alike.

    Where both like two tokens almost equally they may continue differently: that ends the probe and is no failure while
    the log-probabilities at the fork agree. A folder without probes.json does not agree. Raises Unavailable if the
    engine does not answer. Of an embedding model vectors are compared.
    """
    if address.embeds:
        return embedding_parity.check_embeddings(address, folder, n_probes)
    path = CheckpointFolder(folder).probes
    if not path.exists():
        logger.error("no probes at %s", path)
        return _report(_Findings(fault=f"the model comes without {model_folder.PROBES}, so nothing can be proven"), 0.0)
    content = json.loads(path.read_bytes())
    dtypes = (content["dtype"], address.fields.get("dtype", content["dtype"]))
    tolerance = max(TOLERANCES.get(str(dtype), min(TOLERANCES.values())) for dtype in dtypes)
    probes = content["probes"][:n_probes]
    findings = _find(address, probes)
    base = address.fields.get("base_name")
    if base is not None and address.fields["adapter"] is not None and not findings.fault:
        _compare_with_base(findings, _find(replace(address, fields={**address.fields, "served_name": base}), probes))
    return _report(findings, tolerance)


def _find(address: Address, probes: Sequence[Mapping[str, Any]]) -> _Findings:
    """Asks the probes and compares. Raises Unavailable."""
    findings = _Findings()
    with closing(_answers(address, probes)) as answers:
        for number, (probe, answer) in enumerate(zip(probes, answers, strict=True), start=1):
            prompt_tokens = answer["usage"]["prompt_tokens"]
            if prompt_tokens != probe["prompt_tokens"]:
                findings.fault = (
                    f"probe {number} is {prompt_tokens} tokens in the engine and {probe['prompt_tokens']} in the "
                    "trainer: the chat template or the tokenizer differs"
                )
                break
            _compare(answer["choices"][0], probe["positions"], findings)
    return findings


def _compare_with_base(findings: _Findings, of_base: _Findings) -> None:
    """A fault unless the model is clearly nearer to its trainer than its base is, where the two differ at all.

    Some servers say that an adapter is loaded and go on answering as the base (vLLM's issue 34186).
    """
    if of_base.mean > FAINT and findings.mean > of_base.mean * NEARER:
        findings.fault = "it answers like its base, as if the adapter had no effect"


def _answers(address: Address, probes: Sequence[Mapping[str, Any]]) -> Generator[Mapping[str, Any]]:
    """The answer to each probe in turn, as a chat completion; our own engine computes them side by side.

    Raises Unavailable.
    """
    if address.takes_tokens:
        is_remote = address.url.startswith(remote_probing.SCHEME)
        ask = remote_probing.ask_probes if is_remote else native_probing.ask_probes
        yield from ask(address, probes, ENGINE_TOP)
        return
    with httpx2.Client(headers=dict(address.headers), timeout=_TIMEOUT_S, trust_env=False, verify=False) as client:
        for probe in probes:
            yield _ask(client, address, probe)


def _ask(client: httpx2.Client, address: Address, probe: Mapping[str, Any]) -> Mapping[str, Any]:
    """One probe's chat completion from llama.cpp, computed without its cache.

    Raises Unavailable for no answer or an error.
    """
    body = {
        "messages": probe["messages"],
        "temperature": 0,
        "max_tokens": len(probe["positions"]),
        "logprobs": True,
        "top_logprobs": ENGINE_TOP,
        "cache_prompt": False,
        **address.fields,
    }
    try:
        reply = client.post(f"{address.url}/chat/completions", json=body)
    except httpx2.HTTPError as error:
        raise Unavailable("engine_failed", "The engine does not answer the parity probes. Try again.") from error
    if reply.status_code != 200:
        raise Unavailable("engine_failed", f"The engine refuses the parity probes (HTTP {reply.status_code}).")
    answer = reply.json()
    assert isinstance(answer, dict)
    return answer


def _compare(choice: Mapping[str, Any], trained: Sequence[Mapping[str, Any]], findings: _Findings) -> None:
    """Adds the differences between an engine's choice and the trainer's positions, up to the first other token."""
    next_place = 0
    # An answer that ends with its first token has no logprobs at all.
    for entry in (choice.get("logprobs") or {"content": []})["content"]:
        place = _place(entry, trained, next_place)
        if place is None:
            return
        engine_top = {top["id"]: top["logprob"] for top in entry["top_logprobs"]}
        findings.differences += position_differences(engine_top, dict(trained[place]["top"]), entry["id"])
        findings.positions += 1
        if entry["id"] != trained[place]["token_id"]:
            return
        next_place = place + 1


def _place(entry: Mapping[str, Any], trained: Sequence[Mapping[str, Any]], place: int) -> int | None:
    """Which of the trainer's positions an entry is for; None if that cannot be told.

    llama.cpp writes no entry for a token that ends within a character. The next entry then has those bytes too, more
    than its token has in the list of alternatives.
    """
    own_bytes = next((top["bytes"] for top in entry["top_logprobs"] if top["id"] == entry["id"]), entry["bytes"])
    if entry["bytes"] == own_bytes:
        return place if place < len(trained) else None
    later = range(place + 1, min(place + MAX_SPLIT, len(trained)))
    return next((other for other in later if trained[other]["token_id"] == entry["id"]), None)


def position_differences(engine_top: Logprobs, trainer_top: Logprobs, chosen: int) -> Iterator[float]:
    """Absolute differences in nats at one position: for the trainer's likeliest tokens and the engine's `chosen` one.

    A token that one list lacks is less likely there than the list's last: the difference is at least that.
    """
    likeliest = list(trainer_top.items())[:COMPARED]
    for token_id, logprob in likeliest:
        if logprob > MIN_LOGPROB:
            yield abs(engine_top.get(token_id, min(engine_top.values())) - logprob)
    if chosen not in dict(likeliest):
        yield abs(engine_top[chosen] - trainer_top.get(chosen, min(trainer_top.values())))


def _report(findings: _Findings, tolerance: float) -> ParityReport:
    """The verdict: it agrees without a fault, with a position compared, and maximum and mean within the tolerance."""
    differences = findings.differences
    largest = max(differences, default=0.0)
    mean = findings.mean
    agrees = not findings.fault and findings.positions > 0 and largest <= tolerance and mean <= tolerance * MEAN_SHARE
    figures = (
        f"The largest difference of log-probabilities over {findings.positions} positions is {largest:.4f} nats "
        f"(mean {mean:.4f}; tolerated are {tolerance:g} and a mean of {tolerance * MEAN_SHARE:g})."
    )
    if findings.fault:
        figures = f"Not the trained model: {findings.fault}. {figures}"
    return ParityReport(findings.positions, largest, mean, tolerance, agrees, figures)
