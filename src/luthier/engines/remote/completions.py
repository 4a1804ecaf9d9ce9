"""Requests and answers of an OpenAI-compatible `/completions` route, with vLLM's extensions where it has them.

Prompts are token ids. vLLM is asked for token ids in its log-probabilities; another server's are matched by text.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import llguidance
import tokenizers

from luthier.core.engine_ports import Address
from luthier.core.errors import InvalidRequest, LuthierError, Unavailable, UpstreamFailed
from luthier.core.inference.generation import MIN_LOG_PROB, EngineDelta, FinishReason, TokenLogProb, Usage
from luthier.model_folder import HuggingFaceFolder
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer

SCHEME = "remote"
"""Of the URLs of addresses: remote:http://HOST:PORT/v1."""
_SAMPLING = ("max_tokens", "temperature", "top_p", "frequency_penalty", "presence_penalty", "stop", "seed", "logprobs")
_TOKEN_ID = "token_id:"
_BYTES = "bytes:"
_ESCAPED_BYTE = re.compile(rb"\\x([0-9a-f]{2})")
_BUSY = (429, 503)
_RETRY_S = 5.0
_NO_FILTERS = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""A server's own defaults, which may come from the model's generation_config.json, must not change the sampling."""

Json = Mapping[str, Any]


class Vocabulary:
    """The tokens of a model's tokenizer as bytes, and those that end an answer; read from its Hugging Face folder."""

    def __init__(self, folder: Path) -> None:
        """Reads the folder's files. Raises OSError and ValueError."""
        hf = HuggingFaceFolder(folder)
        self.tokenizer = tokenizers.Tokenizer.from_file(str(hf.tokenizer))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.end_ids = sorted(TorchFreeTokenizer(folder).end_ids)
        self._bytes = llguidance.LLTokenizer(hf.tokenizer.read_text("utf-8"))
        self._size = self.tokenizer.get_vocab_size()

    def piece(self, token: int | str) -> bytes:
        """The bytes of a token id, or of a token as a server spells it.

        OpenAI spells a token that ends within a character `bytes:\\xe6\\x9d`.
        """
        if isinstance(token, str):
            if token.startswith(_BYTES):
                return _ESCAPED_BYTE.sub(lambda byte: bytes([int(byte[1], 16)]), token.removeprefix(_BYTES).encode())
            if not token.startswith(_TOKEN_ID):
                return token.encode()
            token = int(token.removeprefix(_TOKEN_ID))
        return bytes(self._bytes.decode_bytes([token])) if 0 <= token < self._size else b""


@lru_cache(4)
def vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary of a folder, from a cache of the latest; reading it takes a second."""
    return Vocabulary(folder)


def most_alternatives(address: Address) -> int:
    """How many likeliest tokens the server gives: vLLM 20 unless it was started with more, others OpenAI's 5."""
    return 20 if is_vllm(address) else 5


def server_url(address: Address) -> str:
    """The base URL of the address's server, as HTTP clients take it."""
    return address.url.removeprefix(f"{SCHEME}:")


def is_vllm(address: Address) -> bool:
    """Whether the server has vLLM's extensions."""
    return bool(address.fields["is_vllm"])


def answer_body(address: Address, request: Json) -> dict[str, Any]:
    """The body that asks for one streamed answer. Raises InvalidRequest for a grammar that the server cannot keep."""
    body: dict[str, Any] = {name: request[name] for name in _SAMPLING if request.get(name) is not None}
    if request.get("logit_bias"):
        body["logit_bias"] = {str(id): bias for id, bias in request["logit_bias"].items()}
    if "logprobs" in body:
        body["logprobs"] = min(body["logprobs"], most_alternatives(address))
    body |= {"model": address.fields["served_name"], "prompt": request["prompt"]}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    grammar = request.get("grammar")
    if is_vllm(address):
        body |= _NO_FILTERS | _vllm_fields(address, str(request.get("cache_scope") or "none"))
        body |= {} if grammar is None else {"structured_outputs": {"grammar": grammar}}
    elif grammar is not None:
        raise InvalidRequest(
            "engine_cannot_constrain",
            "The server behind this model cannot hold an answer to a schema or to tool calls: leave out "
            "`response_format` and required tools, or serve the model with Luthier's own engine or vLLM.",
        )
    return body


def next_token_body(address: Address, prompt: Sequence[int], top: int, scope: str) -> dict[str, Any]:
    """The body that asks what comes after a prompt: one token, with the `top` likeliest in its place.

    `scope` names who may share the prompt's cache. Routes that score a whole prompt at once are not asked: few servers
    have one, and it brought vLLM on a CPU down (docs/serving.md).
    """
    body = {"model": address.fields["served_name"], "prompt": list(prompt)}
    body |= {"temperature": 0, "max_tokens": 1, "logprobs": top}
    return body | (_NO_FILTERS | _vllm_fields(address, scope) if is_vllm(address) else {})


def _vllm_fields(address: Address, scope: str) -> dict[str, Any]:
    """Token ids instead of spellings, every token that ends an answer, and a prompt cache of the caller's own."""
    ends = vocabulary(Path(str(address.fields["tokenizer"]))).end_ids
    return {"return_tokens_as_token_ids": True, "stop_token_ids": ends, "cache_salt": scope}


def values(line: str, known: Vocabulary, top: int | None) -> Iterator[EngineDelta | Usage]:
    """What a line of an answer's event stream says; `top` is how many likeliest tokens were asked for.

    Raises what `error_of` makes of an error in the stream, and UpstreamFailed for a line that is no JSON.
    """
    if not line.startswith("data: "):
        return
    try:
        chunk = json.loads(line.removeprefix("data: "))
    except ValueError:
        raise UpstreamFailed("engine_failed", "The server behind this model sent what is no JSON.") from None
    if error := chunk.get("error"):
        code = error.get("code") if isinstance(error, Mapping) else None  # vLLM's is a status, OpenAI's a word
        raise error_of(code if isinstance(code, int) else 500, json.dumps(chunk).encode())
    for choice in chunk.get("choices") or ():
        reason = choice.get("finish_reason")
        log_probs = None if top is None else list(answer_log_probs(choice.get("logprobs") or {}, known, top))
        yield EngineDelta(choice.get("text") or "", (), log_probs, None if reason is None else _reason(reason))
    if usage := chunk.get("usage"):
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        yield Usage(usage["prompt_tokens"], usage["completion_tokens"], cached)


def answer_log_probs(log_probs: Json, known: Vocabulary, top: int) -> Iterator[TokenLogProb]:
    """The entries of a completion's `logprobs`, each with the `top` likeliest tokens in its place."""
    alternatives = log_probs.get("top_logprobs") or []
    for place, token in enumerate(log_probs.get("tokens") or ()):
        others = sorted((alternatives[place] or {}).items(), key=lambda item: -item[1]) if alternatives else []
        likeliest = [entry(other, value, known) for other, value in others[:top]]
        yield entry(token, log_probs["token_logprobs"][place], known, likeliest)


def entry(
    token: int | str, log_prob: float | None, known: Vocabulary, likeliest: Sequence[TokenLogProb] = ()
) -> TokenLogProb:
    """One token with its log-probability in nats, none below MIN_LOG_PROB; None: the server has no number for it."""
    piece = known.piece(token)
    value = MIN_LOG_PROB if log_prob is None else max(log_prob, MIN_LOG_PROB)
    return TokenLogProb(piece.decode("utf-8", "replace"), [*piece], value, list(likeliest))


def error_of(status: int, content: bytes) -> LuthierError:
    """A server's error response as an error of ours: InvalidRequest for 400 and 422, Unavailable for 429 and 503.

    Any other is UpstreamFailed. Its text may quote the prompt, so it is not passed on.
    """
    if status == 400 and b"context length" in content:
        return InvalidRequest("context_length_exceeded", "The prompt is too long for this model.", "messages")
    if status in (400, 422):
        return InvalidRequest("engine_refused", "The server behind this model refused the request.")
    if status in _BUSY:
        text = f"The server behind this model has no room for the call now (status {status}). Ask again."
        return Unavailable("engine_busy", text, retry_after_s=_RETRY_S)
    return UpstreamFailed("engine_failed", f"The server behind this model answered with status {status}.")


def _reason(reason: str) -> FinishReason:
    try:
        return FinishReason(reason)
    except ValueError:
        raise UpstreamFailed("engine_failed", "The server ended its answer for an unknown reason.") from None
