"""A legacy completion's body, in each of the four shapes of its prompt; what cannot be honoured is refused by name.

`routes/inference/completions.py` calls `CompletionBody.completion_request`, which makes the service's value of it.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainValidator, StrictInt

from luthier.api.requests.chat_bodies import MAX_ANSWERS, SamplingBody, unless_none
from luthier.api.requests.field_types import whole
from luthier.core.errors import InvalidRequest
from luthier.service.inference.generation_requests import CompletionRequest

DEFAULT_MAX_TOKENS = 16
"""OpenAI's and Azure's (wire-contract.md section 13)."""

MAX_PROMPT_TOKENS = 40_000
"""Of all prompts of a request together; what a model's context holds, its engine says."""
MAX_TOKEN_ID = 2**31 - 1
"""An engine counts tokens in 32 bits. What the model itself knows is looked up once it is known."""

_Token = Annotated[StrictInt, Field(ge=0, le=MAX_TOKEN_ID), BeforeValidator(whole)]
_Tokens = Annotated[list[_Token], Field(min_length=1, max_length=MAX_PROMPT_TOKENS)]
_Texts = Annotated[list[str], Field(min_length=1, max_length=MAX_ANSWERS)]
_TokensEach = Annotated[list[_Tokens], Field(min_length=1, max_length=MAX_ANSWERS)]
_Prompt = str | _Tokens | _Texts | _TokensEach


def _shaped(value: object) -> object:
    """A prompt in one of its four shapes, checked. Raises ValueError, which pydantic reports at the field.

    One look at each token: a union of types would try four times, and list every fault.
    """
    if isinstance(value, str):
        return _text(value)
    if not isinstance(value, list) or not value:
        raise ValueError("is a text, a list of texts, a list of token ids, or a list of such lists, and not empty")
    if isinstance(value[0], str | list) and len(value) > MAX_ANSWERS:
        raise ValueError(f"has {MAX_ANSWERS} prompts at most")
    if isinstance(value[0], str):
        return [_text(item, f"[{index}]") for index, item in enumerate(value)]
    if not isinstance(value[0], list):
        return _token_ids(value, "", MAX_PROMPT_TOKENS)
    prompts, left = [], MAX_PROMPT_TOKENS
    for index, item in enumerate(value):
        prompts.append(_token_ids(item, f"[{index}]", left))
        left -= len(prompts[-1])
    return prompts


def _text(value: object, place: str = "") -> str:
    """The value as a prompt of text. Raises ValueError for another type, and for half a surrogate pair."""
    if not isinstance(value, str):
        raise ValueError(_at(place, "must be text, as the first one is"))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(_at(place, "must be valid Unicode text")) from None
    return value


def _token_ids(value: object, place: str, most: int) -> list[int]:
    """The value as a prompt of token ids, whole floats as integers; `most` is how many are left of the request's.

    Raises ValueError.
    """
    if not isinstance(value, list) or not value:
        raise ValueError(_at(place, "must be a list of token ids, and not an empty one"))
    if len(value) > most:
        raise ValueError(f"has {MAX_PROMPT_TOKENS} token ids at most")
    if set(map(type, value)) == {int} and min(value) >= 0 and max(value) <= MAX_TOKEN_ID:
        return value
    for index, item in enumerate(value):
        if isinstance(item, bool) or not isinstance(whole(item), int):
            raise ValueError(_at(f"{place}[{index}]", "must be a whole number, the id of a token"))
        if item < 0:
            raise ValueError(_at(f"{place}[{index}]", "must be 0 or more"))
        if item > MAX_TOKEN_ID:
            raise ValueError(_at(f"{place}[{index}]", f"must be {MAX_TOKEN_ID} or less"))
    return [int(item) for item in value]


def _at(place: str, message: str) -> str:
    """The message, preceded by the path of the prompt that it is about, if that is one of several."""
    return f"prompt{place}: {message}" if place else message


class CompletionBody(SamplingBody):
    """POST /completions: one prompt or several, and how the model is to continue each."""

    prompt: Annotated[Any, PlainValidator(_shaped, json_schema_input_type=_Prompt)]
    max_tokens: int | None = Field(default=None, ge=0, le=2**31 - 1)
    echo: bool | None = None
    best_of: int | None = Field(default=None, ge=1, le=20)
    logprobs: int | None = Field(default=None, ge=0, le=5)
    suffix: Annotated[None, unless_none("no model here fills in before a suffix")] = None

    def completion_request(self) -> CompletionRequest:
        """The request as the service takes it. Raises InvalidRequest for fields that contradict each other."""
        answers = self.n or 1
        best_of = answers if self.best_of is None else self.best_of
        if best_of < answers:
            raise InvalidRequest("invalid_value", "best_of is n or more.", "best_of")
        if self.stream and best_of > answers:
            raise InvalidRequest("invalid_value", "the best of several answers cannot be streamed.", "best_of")
        if self.max_tokens == 0 and not self.echo:
            raise InvalidRequest("invalid_value", "it must be 1 or more; 0 goes with echo alone.", "max_tokens")
        prompts = self._prompts()
        if len(prompts) * best_of > MAX_ANSWERS:
            raise InvalidRequest(
                "invalid_value", f"prompts times n (or best_of) are {MAX_ANSWERS} at most in one request.", "prompt"
            )
        return CompletionRequest(
            prompts=prompts,
            sampling=self.sampling(DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens),
            best_of=best_of,
            echo=bool(self.echo),
            log_probs=self.logprobs,
        )

    def _prompts(self) -> tuple[str | list[int], ...]:
        """The prompts one by one: a list of integers is a single prompt."""
        if isinstance(self.prompt, str):
            return (self.prompt,)
        prompts: list[str | list[int]] = []
        own: list[int] = []
        for item in self.prompt:
            if isinstance(item, int):
                own.append(item)
            else:
                prompts.append(item)
        return (own,) if own else tuple(prompts)
