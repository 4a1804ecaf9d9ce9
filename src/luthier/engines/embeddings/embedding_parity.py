"""Proves served = stored for an embedding model: the engine's vectors against those that were stored at the pull.

The reference is transformers in float32 (trainer/model/embedding_probes.py). The service's tokenizer is proven with it:
it must give the stored token ids for texts that are hard to tokenize.
"""

import array
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2

from luthier.core.engine_ports import Address, ParityReport
from luthier.core.errors import Unavailable, UpstreamFailed
from luthier.engines.embeddings import embedding_client
from luthier.model_folder import PROBES, EmbeddingFolder
from luthier.tokenization.embedding_tokenizer import load_tokenizer

TOLERANCE = 0.01
"""Distance between two vectors of length 1: their cosine is then 0.99995 or more. Measured: at most 0.004 for
all-minilm-l6-v2, for llama.cpp computes GELU from a table in f16 (docs/serving.md)."""
MEAN_SHARE = 0.5
"""The mean distance may be this share of the tolerance."""
_TIMEOUT_S = 300.0


def check_embeddings(address: Address, folder: Path, n_probes: int | None = None) -> ParityReport:
    """Asks the vectors of the first `n_probes` probes of `folder` (None: all) and compares them.

    A folder without probes.json does not agree, nor one whose tokenizer gives other ids. Raises Unavailable if the
    engine does not answer.
    """
    path = EmbeddingFolder(folder).probes
    if not path.exists():
        return _report([], f"the model comes without {PROBES}, so nothing can be proven")
    probes: Sequence[Mapping[str, Any]] = json.loads(path.read_bytes())["probes"][:n_probes]
    tokenizer = load_tokenizer(folder)
    for number, (probe, ids) in enumerate(
        zip(probes, tokenizer.token_ids([probe["text"] for probe in probes]), strict=True), start=1
    ):
        if ids != probe["token_ids"]:
            return _report([], f"probe {number} is other tokens here than by the model's own tokenizer")
    vectors = _ask(address, [probe["token_ids"] for probe in probes])
    return _report([_distance(own, probe["embedding"]) for own, probe in zip(vectors, probes, strict=True)], "")


def _ask(address: Address, inputs: Sequence[Sequence[int]]) -> list[Sequence[float]]:
    """The engine's vectors. Raises Unavailable if it does not answer with them."""
    body = {"input": inputs, "encoding_format": "base64"}
    try:
        with httpx2.Client(headers=dict(address.headers), timeout=_TIMEOUT_S, trust_env=False, verify=False) as client:
            found = embedding_client.vectors_of(client.post(f"{address.url}/embeddings", json=body), len(inputs))
    except (httpx2.HTTPError, UpstreamFailed) as error:
        raise Unavailable("engine_failed", "The engine does not answer the parity probes. Try again.") from error
    return [_floats(vector) for vector in found]


def _floats(data: bytes) -> Sequence[float]:
    """The numbers of little-endian float32."""
    values = array.array("f", data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _distance(own: Sequence[float], stored: Sequence[float]) -> float:
    """The Euclidean distance of two vectors; that of opposite ones if they differ in length."""
    return math.dist(own, stored) if len(own) == len(stored) else 2.0


def _report(distances: Sequence[float], fault: str) -> ParityReport:
    """The verdict: it agrees without a fault, with a probe compared, and maximum and mean within the tolerance."""
    largest = max(distances, default=0.0)
    mean = sum(distances) / len(distances) if distances else 0.0
    agrees = not fault and bool(distances) and largest <= TOLERANCE and mean <= TOLERANCE * MEAN_SHARE
    reason = (
        f"The largest distance of vectors over {len(distances)} texts is {largest:.5f} (mean {mean:.5f}; tolerated are "
        f"{TOLERANCE:g} and a mean of {TOLERANCE * MEAN_SHARE:g})."
    )
    if fault:
        reason = f"Not the stored model: {fault}. {reason}"
    return ParityReport(len(distances), largest, mean, TOLERANCE, agrees, reason)
