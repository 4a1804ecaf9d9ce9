"""Asks a model in an engine process of our own the probes of a checkpoint, all at once, in tokens as it was trained.

`engines.parity` compares the answers with the trainer's log-probabilities.
"""

import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from luthier.core.engine_ports import Address
from luthier.core.errors import Unavailable
from luthier.data.rendering.renderer import Renderer
from luthier.engines.native.protocol import BlockingConnection, Message
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer

_TIMEOUT_S = 300.0

Answer = dict[str, Any]


def ask_probes(address: Address, probes: Sequence[Mapping[str, Any]], top: int) -> list[Answer]:
    """The model's `top` likeliest tokens at each position of the probes, after the trainer's own tokens before it.

    In the shape of chat completions, one for each probe. Raises Unavailable for an engine that refuses or does not
    answer.
    """
    scope = f"probes {uuid.uuid4()}"  # what they begin with is computed once, and never taken over from other calls
    renderer = _renderer(Path(str(address.fields["tokenizer"])))
    prompts = [renderer.token_ids(renderer.text_of_turns(probe["messages"], (), True)) for probe in probes]
    messages = []
    for number, (prompt, probe) in enumerate(zip(prompts, probes, strict=True)):
        said = [position["token_id"] for position in probe["positions"]]
        asked = {"prompt": prompt + said[:-1], "top": top, "rows": len(said), "scope": scope}
        messages.append({"op": "score", "call": number, "model": address.fields.get("adapter"), **asked})
    scores = _scores(address, messages)
    return [
        {"usage": {"prompt_tokens": len(prompt)}, "choices": [{"logprobs": {"content": _content(rows, probe)}}]}
        for prompt, rows, probe in zip(prompts, scores, probes, strict=True)
    ]


def _scores(address: Address, messages: Sequence[Message]) -> list[list[Any]]:
    """Sends all messages, whose `call` is their index; returns the entries of each, computed side by side.

    Raises Unavailable.
    """
    port = int(address.url.rsplit(":", 1)[1])
    entries: list[list[Any]] = [[] for _ in messages]
    try:
        with BlockingConnection(port, address.headers.get("key", ""), _TIMEOUT_S) as connection:
            connection.send(*messages)
            left = len(messages)
            while left:
                message = connection.receive()
                if "error" in message:
                    raise Unavailable("engine_failed", f"The engine refuses the parity probes: {message['message']}")
                entries[message["call"]] += message.get("scores", ())
                left -= bool(message.get("is_last"))
    except OSError as error:
        raise Unavailable("engine_failed", "The engine does not answer the parity probes. Try again.") from error
    return entries


def _content(rows: Sequence[Any], probe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An entry for each position, as in a chat completion: the trainer's token and the engine's likeliest ones.

    `rows` are the engine's (token id, bytes, log-probability, likeliest) behind each position, as many as were asked
    for, else ValueError. The token's bytes are empty if it is not among the likeliest.
    """
    content = []
    for (_, _, _, top), position in zip(rows, probe["positions"], strict=True):
        alternatives = [{"id": id, "bytes": [*piece], "logprob": log_prob} for id, piece, log_prob in top]
        said = position["token_id"]
        data: list[int] = next((other["bytes"] for other in alternatives if other["id"] == said), [])
        content.append({"id": said, "bytes": data, "top_logprobs": alternatives})
    return content


@lru_cache(4)
def _renderer(folder: Path) -> Renderer:
    """The renderer of a model's folder; the latest four are kept."""
    return Renderer(TorchFreeTokenizer(folder), 1)
