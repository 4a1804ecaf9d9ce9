"""The context that an answer may need: computed before the engine is called, refused if it can never fit."""

from luthier.core.engine_ports import Capacity
from luthier.core.errors import InvalidRequest

DEFAULT_MAX_TOKENS = 4096
"""Azure's documented default of max_tokens (wire-contract.md 13); less if a slot's share of the context is less."""
MAX_CHARACTERS_PER_TOKEN = 256
"""No vocabulary in use has a longer token: a text with more characters per token of the window is too long."""


def answer_tokens(
    capacity: Capacity, prompt_tokens: int, asked: int | None, answers: int, prompt_field: str = "messages"
) -> int:
    """The most tokens that each of a request's answers may have. Raises InvalidRequest if that can never fit.

    `asked` is the caller's own max_tokens. Most requests have none: the default for prompt and answer together is a
    slot's share of the context, for the answer at least half of it, so that as many answers as slots run in parallel.
    """
    room = window(capacity) - prompt_tokens
    if room < 1:
        raise too_long(capacity, prompt_tokens, prompt_field)
    if asked is None:
        share = capacity.context_tokens // capacity.slots
        per_answer = capacity.context_tokens // answers
        return max(1, min(DEFAULT_MAX_TOKENS, max(share - prompt_tokens, share // 2), room, per_answer))
    if asked > room:
        raise InvalidRequest(
            "context_length_exceeded",
            f"This model's maximum context length is {window(capacity)} tokens. However, you requested "
            f"{prompt_tokens + asked} tokens ({prompt_tokens} in the {prompt_field}, {asked} in the completion). "
            f"Please reduce the length of the {prompt_field} or completion.",
            prompt_field,
        )
    if asked * answers > capacity.context_tokens:
        raise InvalidRequest(
            "invalid_value",
            f"max_tokens is too large: {asked} for each of {answers} answers. One request may ask for at most "
            f"{capacity.context_tokens} completion tokens in all, whereas you asked for {asked * answers}.",
            "max_tokens",
        )
    return asked


def cannot_fit(capacity: Capacity, characters: int) -> bool:
    """Whether a prompt of so many characters is too long in any vocabulary: nothing is gained by tokenizing it."""
    return characters > window(capacity) * MAX_CHARACTERS_PER_TOKEN


def window(capacity: Capacity) -> int:
    """The most tokens of a prompt and one answer to it together."""
    return min(capacity.window_tokens, capacity.context_tokens)


def too_long(capacity: Capacity, prompt_tokens: int | None, prompt_field: str) -> InvalidRequest:
    """The error for a prompt that leaves no room for an answer; `prompt_tokens` None: it was not even tokenized."""
    length = f"over {window(capacity)}" if prompt_tokens is None else str(prompt_tokens)
    return InvalidRequest(
        "context_length_exceeded",
        f"This model's maximum context length is {window(capacity)} tokens. However, your {prompt_field} resulted in "
        f"{length} tokens. Please reduce the length of the {prompt_field}.",
        prompt_field,
    )
