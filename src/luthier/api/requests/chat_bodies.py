"""A chat completion's body in every shape that clients send; what cannot be honoured is refused by name.

`ChatBody.chat_request` makes the service's value of it. `completion_bodies.py` shares the sampling fields.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from luthier.api.requests.chat_messages import ChatMessage, check_order
from luthier.api.requests.chat_tools import (
    FunctionBody,
    FunctionName,
    ResponseFormatBody,
    ToolBody,
    ToolChoiceBody,
    function_use,
    tool_use,
)
from luthier.api.requests.job_fields import Metadata
from luthier.core.errors import InvalidRequest
from luthier.service.inference.generation_requests import ChatRequest, Sampling, ToolUse

MAX_ANSWERS = 128


def unless_none(why: str) -> BeforeValidator:
    """For a field that is known and cannot be honoured: null says nothing, anything else is refused with `why`."""

    def check(value: object) -> None:
        """Raises ValueError, which pydantic reports at the field, for any value but None."""
        if value is not None:
            raise ValueError(f"{why}; leave it out")

    return BeforeValidator(check)


def only_value(value: str, why: str) -> BeforeValidator:
    """For a field of which one value says what happens anyway; a list may hold that one. `why` is for the others."""

    def check(sent: object) -> object:
        """The value as it was sent.

        Raises ValueError, which pydantic reports at the field, for any other than None and the one.
        """
        if sent is None or sent == value or (isinstance(sent, list) and set(map(str, sent)) <= {value}):
            return sent
        raise ValueError(f"{why}; leave it out")

    return BeforeValidator(check)


MAX_BIASES = 1024
"""Entries of logit_bias. Neither vendor says how many it takes; each costs a look at every token of an answer."""
MAX_STOP_CHARACTERS = 256
"""Of each stop string. Neither vendor says how long one may be."""
MAX_ID_CHARACTERS = 512
"""Of what a caller says about itself: `user` and the like, which change no answer."""


def _limit_biases(value: object) -> object:
    """The value unchanged. Raises ValueError for too many biases before any is looked at: each may be faulty."""
    if isinstance(value, dict) and len(value) > MAX_BIASES:
        raise ValueError(f"has {MAX_BIASES} entries at most, not {len(value)}")
    return value


TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
LogitBias = Annotated[
    dict[TokenId, Annotated[float, Field(ge=-100, le=100)]],
    BeforeValidator(_limit_biases),
    # pydantic says which keys, and not that there are no more
    Field(json_schema_extra={"additionalProperties": False, "maxProperties": MAX_BIASES}),
]
_Words = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
_Id = Annotated[str, Field(max_length=MAX_ID_CHARACTERS)]
SecurityContext = Annotated[dict[str, _Id | None], Field(max_length=16)]
"""Azure's `user_security_context`: who asks, for Microsoft Defender. Nothing here reads it."""
Stop = _Words | Annotated[list[_Words], Field(max_length=4)] | None


class StreamOptions(BaseModel):
    """What a streamed answer holds beside its chunks: the usage at its end."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    include_obfuscation: bool | None = None
    """Padding against those who watch the length of packets: clients must not count on it, and it is not sent."""


class SamplingBody(BaseModel):
    """What chats and legacy completions have in common. None means that the field was not sent.

    `model` names a deployment or a model; paths of deployments need none.
    """

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
    user: _Id | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether a streamed answer ends with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, max_tokens: int | None) -> Sampling:
        """The sampling parameters as engines spell them. Raises InvalidRequest for stream_options without stream.

        OpenAI's defaults are written out: an engine's own differ. `max_tokens` None leaves that to `context_budget`.
        """
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("invalid_value", "stream_options go with stream: true alone.", "stream_options")
        kept = {"stop", "presence_penalty", "frequency_penalty", "logit_bias"}
        fields: dict[str, Any] = self.model_dump(include=kept, exclude_none=True)
        fields["temperature"] = 1.0 if self.temperature is None else self.temperature
        fields["top_p"] = 1.0 if self.top_p is None else self.top_p
        if max_tokens is not None:
            fields["max_tokens"] = max_tokens
        return Sampling(fields, self.seed, self.n or 1)


class PredictionBody(BaseModel):
    """What the caller expects the answer to be, for speed alone."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["content"]
    content: str | list[dict[str, Any]]


class ChatBody(SamplingBody):
    """POST /chat/completions: the turns of a chat, and how the model is to answer the last one."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=2048)
    max_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[ToolBody] | None = Field(default=None, max_length=128)
    tool_choice: ToolChoiceBody | None = None
    parallel_tool_calls: bool | None = None
    functions: list[FunctionBody] | None = Field(default=None, min_length=1, max_length=128)
    function_call: Literal["none", "auto"] | FunctionName | None = None
    response_format: ResponseFormatBody | None = None

    # Taken and kept to themselves: they tell the vendor who asks, or what it may keep, and change no answer.
    safety_identifier: str | None = Field(default=None, max_length=64)
    prompt_cache_key: _Id | None = None
    metadata: Metadata | None = None
    user_security_context: SecurityContext | None = None
    # Taken and without effect, which the header x-luthier-without-effect says: no word of an answer depends on them.
    store: Annotated[bool | None, Field(description="Answers are never kept, whatever it says.")] = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = None
    prediction: PredictionBody | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    # The one value of each that is honoured, because it is what happens.
    modalities: Annotated[list[Literal["text"]] | None, only_value("text", "answers are text alone")] = None
    reasoning_effort: Annotated[Literal["none"] | None, only_value("none", "this model does not reason")] = None
    verbosity: Annotated[
        Literal["medium"] | None, only_value("medium", "how long answers are is learned in training")
    ] = None

    audio: Annotated[None, unless_none("no model here speaks")] = None
    web_search_options: Annotated[None, unless_none("models here do not search the web")] = None
    data_sources: Annotated[None, unless_none("models here read no data sources")] = None
    moderation: Annotated[None, unless_none("no moderation runs here")] = None
    prompt_cache_options: Annotated[None, unless_none("how prompts are cached cannot be chosen")] = None

    @property
    def asked_max_tokens(self) -> int | None:
        """The longest answer in tokens that the caller allows; None if it sets no limit."""
        return self.max_completion_tokens or self.max_tokens

    def without_effect(self) -> tuple[str, ...]:
        """The fields that were sent, ask for something, and change nothing here."""
        asked = {
            "store": self.store,
            "service_tier": self.service_tier not in (None, "auto", "default"),
            "prediction": self.prediction is not None,
            "prompt_cache_retention": self.prompt_cache_retention is not None,
        }
        return tuple(name for name, is_asked in asked.items() if is_asked)

    def characters(self) -> int:
        """The length of what the model is to read, tool definitions excepted, for an estimate of its tokens."""
        return sum(message.characters() for message in self.messages)

    def chat_request(self) -> ChatRequest:
        """The request as the service takes it.

        Raises InvalidRequest for fields that contradict each other, or parts no model can read.
        """
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("invalid_value", "top_logprobs go with logprobs: true alone.", "top_logprobs")
        check_order(self.messages)
        return ChatRequest(
            messages=tuple(message.plain(f"messages[{place}]") for place, message in enumerate(self.messages)),
            sampling=self.sampling(self.asked_max_tokens),
            tool_use=self._tool_use(),
            schema=self.response_format.schema_of_answer() if self.response_format else None,
            top_log_probs=(self.top_logprobs or 0) if self.logprobs else None,
        )

    def _tool_use(self) -> ToolUse:
        """The tools, in either spelling.

        Raises InvalidRequest for both spellings, a choice without tools, and unusable schemas.
        """
        if self.functions is None:
            if self.function_call not in (None, "none"):
                raise InvalidRequest("invalid_value", "function_call goes with functions alone.", "function_call")
            return tool_use(self.tools or [], self.tool_choice, self.parallel_tool_calls is not False)
        if self.tools:
            raise InvalidRequest("invalid_value", "functions is tools in an older spelling; send one.", "functions")
        choice = self.function_call if isinstance(self.function_call, str | None) else self.function_call.name
        return function_use(self.functions, choice)
