"""A chat completion's body in every shape that clients send; what cannot be honoured is refused by name."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from luthier.api.chat_messages import ChatMessage, check_order
from luthier.api.chat_tools import (
    FunctionBody,
    FunctionName,
    ResponseFormatBody,
    ToolBody,
    ToolChoice,
    function_use,
    tool_use,
)
from luthier.core.errors import InvalidRequest
from luthier.service.questions import ChatQuestion, Sampling, ToolUse

DEFAULT_MAX_TOKENS = 4096
"""Azure's documented default of max_tokens (contract section 13)."""

MAX_ANSWERS = 128


def unless_none(why: str) -> BeforeValidator:
    """For a field that is known and cannot be honoured: null says nothing, anything else is refused."""

    def check(value: object) -> None:
        if value is not None:
            raise ValueError(f"{why}; leave it out")

    return BeforeValidator(check)


TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
LogitBias = Annotated[
    dict[TokenId, Annotated[float, Field(ge=-100, le=100)]],
    Field(
        json_schema_extra={"additionalProperties": False}
    ),  # pydantic says which keys, and not that there are no more
]
_Words = Annotated[str, Field(min_length=1)]
Stop = _Words | Annotated[list[_Words], Field(max_length=4)] | None


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    include_obfuscation: bool | None = None
    """Padding against those who watch the length of packets: clients must not count on it, and it is not sent."""


class SamplingBody(BaseModel):
    """What chats and legacy completions have in common."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    stop: Stop = None
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: LogitBias | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_ANSWERS)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, max_tokens: int) -> Sampling:
        """With OpenAI's defaults written out: an engine's own defaults differ."""
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("invalid_value", "stream_options go with stream: true alone.", "stream_options")
        kept = {"stop", "presence_penalty", "frequency_penalty", "logit_bias"}
        fields: dict[str, Any] = self.model_dump(include=kept, exclude_none=True)
        fields["temperature"] = 1.0 if self.temperature is None else self.temperature
        fields["top_p"] = 1.0 if self.top_p is None else self.top_p
        fields["max_tokens"] = max_tokens
        return Sampling(fields, self.seed, self.n or 1)


class ChatBody(SamplingBody):
    """POST /chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=2048)
    max_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[ToolBody] | None = Field(default=None, max_length=128)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[FunctionBody] | None = Field(default=None, min_length=1, max_length=128)
    function_call: Literal["none", "auto"] | FunctionName | None = None
    response_format: ResponseFormatBody | None = None

    # Taken and kept to themselves: they tell the vendor who asks, or what it may keep, and change no answer.
    safety_identifier: str | None = Field(default=None, max_length=64)
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = Field(default=None, max_length=16)
    # The one value of each that is honoured, because it is what happens.
    store: Annotated[Literal[False] | None, Field(description="Answers are never kept.")] = None
    service_tier: Literal["auto", "default"] | None = None
    modalities: list[Literal["text"]] | None = None
    reasoning_effort: Literal["none"] | None = None
    verbosity: Literal["medium"] | None = None

    audio: Annotated[None, unless_none("no model here speaks")] = None
    prediction: Annotated[None, unless_none("predicted output is not supported")] = None
    web_search_options: Annotated[None, unless_none("models here do not search the web")] = None
    data_sources: Annotated[None, unless_none("models here read no data sources")] = None
    moderation: Annotated[None, unless_none("no moderation runs here")] = None
    prompt_cache_retention: Annotated[None, unless_none("how long prompts stay cached cannot be chosen")] = None
    prompt_cache_options: Annotated[None, unless_none("how prompts are cached cannot be chosen")] = None

    @property
    def asked_max_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    def characters(self) -> int:
        """The length of what the model is to read, for an estimate of its tokens."""
        return sum(message.characters() for message in self.messages)

    def question(self) -> ChatQuestion:
        """What is asked, in the service's words. Raises InvalidRequest where fields do not go together."""
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("invalid_value", "top_logprobs go with logprobs: true alone.", "top_logprobs")
        check_order(self.messages)
        return ChatQuestion(
            messages=tuple(message.plain(f"messages[{place}]") for place, message in enumerate(self.messages)),
            sampling=self.sampling(self.asked_max_tokens or DEFAULT_MAX_TOKENS),
            tool_use=self._tool_use(),
            schema=self.response_format.schema_of_answer() if self.response_format else None,
            top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )

    def _tool_use(self) -> ToolUse:
        if self.functions is None:
            if self.function_call not in (None, "none"):
                raise InvalidRequest("invalid_value", "function_call goes with functions alone.", "function_call")
            return tool_use(self.tools or [], self.tool_choice, self.parallel_tool_calls is not False)
        if self.tools:
            raise InvalidRequest("invalid_value", "functions is tools in an older spelling; send one.", "functions")
        choice = self.function_call if isinstance(self.function_call, str | None) else self.function_call.name
        return function_use(self.functions, choice)
