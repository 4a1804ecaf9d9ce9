"""Embeddings: the texts of a request are tokenized and checked, and their vectors computed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.core.errors import InvalidRequest, Unavailable
from luthier.model_folder import EmbeddingFolder
from luthier.service.context import Context
from luthier.service.inference.model_routing import Route
from luthier.service.scheduling.calls_port import VectorCalls
from luthier.service.scheduling.embedding_calls import EmbeddingCall
from luthier.tokenization.embedding_tokenizer import EmbeddingTokenizer, load_tokenizer

Input = str | Sequence[int]
MAX_INLINE_CHARACTERS = 2048
"""So short inputs are tokenized on the event loop, in a millisecond: a thread would cost more."""
_NAMED = 5
"""So many inputs a message names that are too long."""


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts, or token ids of the model's own tokenizer; `dimensions` is the length of vectors that the caller expects.

    `is_list` is whether the caller sent a list of inputs, for the paths in messages.
    """

    inputs: tuple[Input, ...]
    dimensions: int | None = None
    is_list: bool = True

    @property
    def characters(self) -> int:
        """Of all texts and, as one each, token ids."""
        return sum(map(len, self.inputs))

    def path(self, index: int) -> str:
        """How a message names the input of that index."""
        return f"input[{index}]" if self.is_list else "input"


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The vectors, one for each input in its order: little-endian float32, of length 1. `tokens` of all inputs."""

    vectors: Sequence[bytes]
    tokens: int


async def embed(context: Context, calls: VectorCalls, route: Route, request: EmbeddingRequest) -> Embeddings:
    """The vectors of a request's inputs.

    Raises InvalidRequest for inputs that are too long, token ids that no text has and other `dimensions`; RateLimited,
    Unavailable and UpstreamFailed.
    """
    if request.characters <= MAX_INLINE_CHARACTERS:
        inputs = tokenize(context, route, request)
    else:
        async with calls.tokenizing:
            inputs = await asyncio.to_thread(tokenize, context, route, request)
    call = route.engine_call("input")
    vectors = await calls.embed(EmbeddingCall(call.address, call.current_address, call.queue_key, call.model), inputs)
    return Embeddings(vectors, sum(map(len, inputs)))


def tokenize(context: Context, route: Route, request: EmbeddingRequest) -> list[list[int]]:
    """The token ids of all inputs, special tokens included; computes, so it runs in a thread for longer ones.

    Raises InvalidRequest, and Unavailable for a model whose tokenizer is no longer on this machine.
    """
    folder = context.base_folder(route.model.base.name)
    try:
        description = EmbeddingFolder(folder).read()
        tokenizer = load_tokenizer(folder)
    except (OSError, ValueError, KeyError) as error:
        name = route.model.base.name
        text = f"The files of {name} cannot be read on this machine. Run: luthier models pull {name}"
        raise Unavailable("model_not_ready", text) from error
    _check_dimensions(route, request, description.dimensions)
    texts = [text for text in request.inputs if isinstance(text, str)]
    of_texts = iter(tokenizer.token_ids(texts))
    ids = [
        next(of_texts) if isinstance(given, str) else _checked(tokenizer, request.path(index), given)
        for index, given in enumerate(request.inputs)
    ]
    _refuse_long(request, ids, min(description.max_tokens, route.model.base.context_tokens))
    return ids


def _checked(tokenizer: EmbeddingTokenizer, path: str, token_ids: Sequence[int]) -> list[int]:
    """Token ids of the caller's, with the special tokens. Raises InvalidRequest for one that no text of this model has.

    Those of another tokenizer (OpenAI's, which LangChain sends by default) would be vectors of other words: common
    words have small numbers there, which are unused ones here.
    """
    for index, id in enumerate(token_ids):
        if id >= tokenizer.size or id in tokenizer.unused:
            what = (
                f"beyond this model's vocabulary of {tokenizer.size}"
                if id >= tokenizer.size
                else f"{tokenizer.unused[id]}, which no text gives"
            )
            raise InvalidRequest(
                "invalid_token_id",
                f"{path}[{index}] is the token {id}, {what}. Token ids are those of the model's own tokenizer, not of "
                "tiktoken: send text (LangChain: check_embedding_ctx_length=False).",
                f"{path}[{index}]",
            )
    return tokenizer.complete(list(token_ids))


def _refuse_long(request: EmbeddingRequest, ids: Sequence[Sequence[int]], most: int) -> None:
    """Raises InvalidRequest, in OpenAI's words, that names the inputs beyond the model's limit with their lengths."""
    long = [index for index, each in enumerate(ids) if len(each) > most]
    if not long:
        return
    named = ", ".join(f"{request.path(index)} has {len(ids[index])} tokens" for index in long[:_NAMED])
    more = f", and {len(long) - _NAMED} more are too long" if len(long) > _NAMED else ""
    raise InvalidRequest(
        "context_length_exceeded",
        f"This model's maximum context length is {most} tokens, however {named}{more}. Please reduce the length of the "
        "input, or split it.",
        request.path(long[0]),
    )


def _check_dimensions(route: Route, request: EmbeddingRequest, dimensions: int) -> None:
    """Raises InvalidRequest for another length of vectors than the model's."""
    if request.dimensions not in (None, dimensions):
        raise InvalidRequest(
            "invalid_value",
            f"dimensions is {request.dimensions}; the vectors of {route.model.canonical_name} have {dimensions} "
            "numbers and cannot be shortened. Leave it out.",
            "dimensions",
        )
