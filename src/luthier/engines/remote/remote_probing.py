"""Asks a model behind a completions route the probes of a checkpoint, in tokens as it was trained."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from luthier.core.engine_ports import Address
from luthier.core.errors import Unavailable
from luthier.data.rendering.renderer import Renderer
from luthier.engines.remote import completions
from luthier.engines.remote.completions import SCHEME as SCHEME
from luthier.engines.remote.completions import Vocabulary
from luthier.engines.remote.completions_server import CompletionsServer
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer

AT_ONCE = 8
_TIMEOUT_S = 300.0

Answer = dict[str, Any]


def ask_probes(address: Address, probes: Sequence[Mapping[str, Any]], top: int) -> list[Answer]:
    """What the model says at each of a probe's positions, behind the trainer's tokens, as answers of a chat completion.

    With the `top` likeliest tokens there, as far as servers give so many. Raises Unavailable.
    """
    folder = Path(str(address.fields["tokenizer"]))
    known, renderer = completions.vocabulary(folder), Renderer(TorchFreeTokenizer(folder), 1)
    key = address.headers.get("Authorization", "").removeprefix("Bearer ")
    server = CompletionsServer(completions.server_url(address), key)
    prompts = [renderer.token_ids(renderer.text_of_turns(probe["messages"], (), True)) for probe in probes]
    scope = uuid.uuid4().hex  # nothing is taken over from other calls
    bodies = [
        completions.next_token_body(address, [*prompt, *said], min(top, completions.most_alternatives(address)), scope)
        for prompt, probe in zip(prompts, probes, strict=True)
        for said in _beginnings(probe)
    ]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        places = threads.map(lambda body: server.complete(body, _TIMEOUT_S)["choices"][0], bodies)
        return [_answer(len(prompt), places, probe, known) for prompt, probe in zip(prompts, probes, strict=True)]


def _answer(n_prompt: int, places: Iterator[Any], probe: Mapping[str, Any], known: Vocabulary) -> Answer:
    """The answer to one probe, of as many completions as it has positions."""
    content = [_entry(next(places), position, known) for position in probe["positions"]]
    return {"usage": {"prompt_tokens": n_prompt}, "choices": [{"logprobs": {"content": content}}]}


def _beginnings(probe: Mapping[str, Any]) -> list[list[int]]:
    """Of the trainer's answer what stands before each of its positions."""
    said = [position["token_id"] for position in probe["positions"]]
    return [said[:n] for n in range(len(said))]


def _entry(choice: Mapping[str, Any], position: Mapping[str, Any], known: Vocabulary) -> dict[str, Any]:
    """What the engine thinks at a position, of those tokens that the trainer names or the engine gives by id.

    Raises Unavailable for a server that says nothing of them.
    """
    place: Mapping[str, float] = ((choice.get("logprobs") or {}).get("top_logprobs") or [{}])[0] or {}
    by_piece = {known.piece(id): id for id, _ in reversed(position["top"])}
    by_piece[known.piece(position["token_id"])] = position["token_id"]
    alternatives = []
    for token, log_prob in place.items():
        id = int(token.removeprefix("token_id:")) if token.startswith("token_id:") else by_piece.get(known.piece(token))
        if id is not None:
            alternatives.append({"id": id, "bytes": [*known.piece(id)], "logprob": log_prob})
    if not alternatives:
        raise Unavailable(
            "no_log_probabilities",
            "The server behind this model gives no log-probabilities of the tokens that the parity check compares.",
        )
    said = position["token_id"]
    return {"id": said, "bytes": [*known.piece(said)], "top_logprobs": alternatives}
