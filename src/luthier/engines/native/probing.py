"""Asks a model in an engine process of our own the probes of a checkpoint, all at once, in tokens as it was trained."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from luthier.core.errors import Unavailable
from luthier.core.ports import Address
from luthier.data.rendering.renderer import Renderer
from luthier.engines.native.protocol import BlockingConnection
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer

_TIMEOUT_S = 300.0

Answer = dict[str, Any]


def ask_probes(address: Address, probes: Sequence[Mapping[str, Any]], top: int) -> list[Answer]:
    """The greedy answer to each probe, in the shape of a chat completion. Raises Unavailable."""
    renderer = _renderer(Path(str(address.fields["tokenizer"])))
    prompts = [renderer.token_ids(renderer.text_of_turns(probe["messages"], (), True)) for probe in probes]
    answers: list[Answer] = [
        {"usage": {"prompt_tokens": len(prompt)}, "choices": [{"logprobs": {"content": []}}]} for prompt in prompts
    ]
    messages = [
        {
            "op": "generate",
            "call": number,
            "model": address.fields.get("adapter"),
            "prompt": prompt,
            "scope": "",
            "request": {"temperature": 0, "max_tokens": len(probe["positions"]), "logprobs": top},
        }
        for number, (prompt, probe) in enumerate(zip(prompts, probes, strict=True))
    ]
    port = int(address.url.rsplit(":", 1)[1])
    try:
        with BlockingConnection(port, address.headers.get("key", ""), _TIMEOUT_S) as connection:
            connection.send(*messages)
            left = len(messages)
            while left:
                message = connection.receive()
                if "error" in message:
                    raise Unavailable("engine_failed", f"The engine refuses the parity probes: {message['message']}")
                answers[message["call"]]["choices"][0]["logprobs"]["content"] += map(
                    _entry, message.get("log_probs", ())
                )
                left -= "finish" in message
    except OSError as error:
        raise Unavailable("engine_failed", "The engine does not answer the parity probes. Try again.") from error
    return answers


@lru_cache(4)
def _renderer(folder: Path) -> Renderer:
    return Renderer(TorchFreeTokenizer(folder), 1)


def _entry(entry: Sequence[Any]) -> dict[str, Any]:
    id, data, log_prob, top = entry
    alternatives = [{"id": other, "bytes": [*piece], "logprob": value} for other, piece, value in top]
    return {"id": id, "bytes": [*data], "logprob": log_prob, "top_logprobs": alternatives}
