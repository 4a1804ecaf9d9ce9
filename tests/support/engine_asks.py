"""Asks a model at an address, whatever kind of engine has it, for the tokens of an answer."""

from pathlib import Path
from typing import Any

import httpx2

from luthier.core.engine_ports import Address
from luthier.data.rendering.renderer import Renderer
from luthier.engines.native.protocol import BlockingConnection
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer


def answer_entries(address: Address, prompt: str, letters_only: bool = False, **fields: Any) -> list[dict[str, Any]]:
    """The answer to one message, as long as `max_tokens` allows: of each token its id and the ids of the likeliest.

    Raises OSError or httpx2.TransportError where no engine listens.
    """
    ask = _ask_in_tokens if address.takes_tokens else _ask_in_messages
    return ask(address, prompt, letters_only, fields)


def _ask_in_messages(address: Address, prompt: str, letters_only: bool, fields: dict[str, Any]) -> list[dict[str, Any]]:
    body = {"messages": [{"role": "user", "content": prompt}], "ignore_eos": True, "logprobs": True, **fields}
    if letters_only:
        body["grammar"] = "root ::= [a-zA-Z ]+"
    body |= address.fields
    reply = httpx2.post(f"{address.url}/chat/completions", json=body, headers=dict(address.headers), timeout=60)
    assert reply.status_code == 200, reply.text
    content: list[dict[str, Any]] = reply.json()["choices"][0]["logprobs"]["content"]
    return content


def _ask_in_tokens(address: Address, prompt: str, letters_only: bool, fields: dict[str, Any]) -> list[dict[str, Any]]:
    tokenizer = TorchFreeTokenizer(Path(str(address.fields["tokenizer"])))
    renderer = Renderer(tokenizer, 1)
    text = renderer.text_of_turns([{"role": "user", "content": prompt}], (), True)
    request = {"logit_bias": {str(id): -100 for id in tokenizer.end_ids}, **fields}
    request["logprobs"] = request.pop("top_logprobs", 1)
    if letters_only:
        request["grammar"] = "start: /[a-zA-Z ]+/"
    message = {"op": "generate", "call": 1, "prompt": renderer.token_ids(text), "scope": "tests", "request": request}
    port = int(address.url.rsplit(":", 1)[1])
    entries: list[dict[str, Any]] = []
    with BlockingConnection(port, address.headers["key"], 60) as connection:
        connection.send({**message, "model": address.fields["adapter"]})
        while True:
            received = connection.receive()
            assert "error" not in received, received
            for id, _, _, top in received.get("log_probs", ()):
                entries.append({"id": id, "top_logprobs": [{"id": other} for other, _, _ in top]})
            if "finish" in received:
                return entries
