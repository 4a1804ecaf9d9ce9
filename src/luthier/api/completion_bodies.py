"""A legacy completion's body in every shape of its prompt; what cannot be honoured is refused by name."""

from typing import Annotated

from pydantic import BeforeValidator, Field, StrictInt

from luthier.api.chat_bodies import MAX_ANSWERS, SamplingBody, unless_none
from luthier.api.job_fields import whole
from luthier.core.errors import InvalidRequest
from luthier.service.questions import CompletionQuestion

DEFAULT_MAX_TOKENS = 16
"""OpenAI's and Azure's (contract section 13)."""

_Token = Annotated[StrictInt, Field(ge=0), BeforeValidator(whole)]  # in this order the limit stands in the schema
_Tokens = Annotated[list[_Token], Field(min_length=1)]
_Texts = Annotated[list[str], Field(min_length=1, max_length=MAX_ANSWERS)]
_TokensEach = Annotated[list[_Tokens], Field(min_length=1, max_length=MAX_ANSWERS)]


class CompletionBody(SamplingBody):
    """POST /completions."""

    prompt: str | _Tokens | _Texts | _TokensEach
    max_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    echo: bool | None = None
    best_of: int | None = Field(default=None, ge=1, le=20)
    logprobs: int | None = Field(default=None, ge=0, le=5)
    suffix: Annotated[None, unless_none("no model here fills in before a suffix")] = None

    def question(self) -> CompletionQuestion:
        """What is asked, in the service's words. Raises InvalidRequest where fields do not go together."""
        answers = self.n or 1
        best_of = answers if self.best_of is None else self.best_of
        if best_of < answers:
            raise InvalidRequest("invalid_value", "best_of is n or more.", "best_of")
        if self.stream and best_of > answers:
            raise InvalidRequest("invalid_value", "the best of several answers cannot be streamed.", "best_of")
        if self.echo and self.logprobs is not None:
            raise InvalidRequest(
                "invalid_value", "log-probabilities of a prompt are not computed; ask without echo.", "logprobs"
            )
        prompts = self._prompts()
        if len(prompts) * best_of > MAX_ANSWERS:
            raise InvalidRequest(
                "invalid_value", f"prompts times n (or best_of) are {MAX_ANSWERS} at most in one request.", "prompt"
            )
        return CompletionQuestion(
            prompts=prompts,
            sampling=self.sampling(self.max_tokens or DEFAULT_MAX_TOKENS),
            best_of=best_of,
            echo=bool(self.echo),
            logprobs=self.logprobs,
        )

    def _prompts(self) -> tuple[str | list[int], ...]:
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
