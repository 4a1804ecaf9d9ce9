"""An exported GGUF in llama.cpp's own server, in this process: its tokenizer, its template, its arithmetic."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from luthier.core.errors import Unsupported, UpstreamFailed
from luthier.engines.exports.export_parity import TOP, Likeliest, Tool
from luthier.engines.llamacpp import server
from luthier.engines.llamacpp.prompt_scores import PromptScores
from luthier.engines.llamacpp.server import Config

_CONTEXT_TOKENS = 2048
"""More than any probe has."""
_TIMEOUT_S = 600.0


@contextmanager
def loaded(model: Path, adapter: Path | None, scratch: Path, threads: int, hush: Callable[[], None]) -> Iterator[Tool]:
    """llama.cpp with the model, and with the adapter at scale 1; it answers while the block lasts.

    `scratch` is a folder for a name of a moment. From `hush` on llama.cpp's messages may quote a prompt.
    Raises Unsupported if llama.cpp is not installed, UpstreamFailed for files that it does not load.
    """
    try:
        import xllamacpp
    except ModuleNotFoundError as error:
        text = "This format is proven with llama.cpp, which the service lacks. Run: pip install luthier[serve-cpu]"
        raise Unsupported("engine_missing", text) from error
    key = secrets.token_hex(16)
    config = Config("", str(model), "export", (), _CONTEXT_TOKENS, 1, threads, key)
    try:
        running = xllamacpp.Server(server.parameters_of(config, [] if adapter is None else [adapter]))
    except RuntimeError as error:
        raise UpstreamFailed("export_not_loadable", "llama.cpp does not load the exported file.") from error
    hush()
    adapters = [] if adapter is None else [partial(_link, adapter, scratch)]
    scores = PromptScores(Path(xllamacpp.xllamacpp.__file__), model, adapters, threads)
    headers = {"Authorization": f"Bearer {key}"}
    with httpx2.Client(
        base_url=running.listening_address, headers=headers, timeout=_TIMEOUT_S, trust_env=False
    ) as http:
        yield _tool(http, scores, {} if adapter is None else {0: 1.0})


def _link(adapter: Path, scratch: Path) -> Path:
    """A name for the adapter that the scores may delete once they have read it."""
    link = scratch / "adapter-link.gguf"
    link.symlink_to(adapter)
    return link


def _tool(http: httpx2.Client, scores: PromptScores, scales: Mapping[int, float]) -> Tool:
    """The tool: prompts are made by the server, log-probabilities by the same library from the same file.

    The server itself gives none for a token that ends within a character, nor for an answer that ends at once.
    """

    def prompt(messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """The chat's tokens by the file's own template and tokenizer."""
        text = _post(http, "/apply-template", {"messages": messages})["prompt"]
        return list(_post(http, "/tokenize", {"content": text, "parse_special": True, "add_special": False})["tokens"])

    def score(tokens: list[int], n: int) -> Sequence[Likeliest]:
        """One pass over the tokens."""
        entries = scores.score(tokens, scales, TOP)[-n:]
        return [[(top["id"], top["logprob"]) for top in entry["top_logprobs"]] for entry in entries]

    return Tool("llama.cpp", prompt, score)


def _post(http: httpx2.Client, path: str, body: Mapping[str, object]) -> Any:
    """The server's answer. Raises UpstreamFailed for a refusal or none at all."""
    try:
        reply = http.post(path, json=body)
    except httpx2.HTTPError as error:
        raise UpstreamFailed("engine_failed", "llama.cpp does not answer the probes of the exported file.") from error
    if reply.status_code != 200:
        raise UpstreamFailed("engine_failed", f"llama.cpp refuses the probes of the export (HTTP {reply.status_code}).")
    return reply.json()
