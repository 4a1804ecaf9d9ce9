"""A response's body (POST /responses) in every shape that clients send; what cannot be honoured is refused by name.

docs/responses.md has the table of every field. `ResponseBody.chat_request` makes the service's value of it.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from luthier.api.requests.chat_bodies import MAX_ID_CHARACTERS, only_value, unless_none
from luthier.api.requests.job_fields import Metadata
from luthier.api.requests.responses import response_items, response_tools
from luthier.api.requests.responses.response_items import InputItem, Item, ItemMessage, ReferenceBody, StorableItem
from luthier.api.requests.responses.response_tools import ChoiceBody, FormatBody, FunctionTool, ToolItem
from luthier.core.errors import InvalidRequest
from luthier.service.inference.generation_requests import ChatRequest, Sampling

MAX_ITEMS = 2048
LOG_PROBS = "message.output_text.logprobs"
_Id = Annotated[str, Field(max_length=MAX_ID_CHARACTERS)]
Includable = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]
"""What may be asked to be included. All but log-probabilities belong to items that no response here has."""


class _Body(BaseModel):
    """A JSON object in which an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class ReasoningBody(_Body):
    """`reasoning`: the one value of each field that is honoured, because it is what happens.

    A summary is of thoughts, which no answer here has: any may be asked for, and inspect-ai always does.
    """

    effort: Annotated[Literal["none"] | None, only_value("none", "this model does not reason")] = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Annotated[Literal["auto"] | None, only_value("auto", "this model does not reason")] = None
    mode: Annotated[Literal["standard"] | None, only_value("standard", "this model does not reason")] = None


class TextBody(_Body):
    """`text`: the form of the answer."""

    format: FormatBody | None = None
    verbosity: Annotated[
        Literal["medium"] | None, only_value("medium", "how long answers are is learned in training")
    ] = None


class ResponseStreamOptions(_Body):
    """What a streamed response holds beside its events."""

    include_obfuscation: bool | None = None
    """Padding against those who watch the length of packets: clients must not count on it, and it is not sent."""


class PromptBody(_Body):
    """What a response and a count of its tokens have in common: the conversation, and how it may be answered.

    None means that the field was not sent. `model` names a deployment or a model.
    """

    model: str | None = None
    input: str | Annotated[list[InputItem], Field(max_length=MAX_ITEMS)] | None = None
    instructions: str | None = None
    previous_response_id: Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARACTERS)] | None = None
    tools: Annotated[list[ToolItem], Field(max_length=128)] | None = None
    tool_choice: ChoiceBody | None = None
    parallel_tool_calls: bool | None = None
    text: TextBody | None = None
    truncation: Annotated[
        Literal["disabled"] | None, only_value("disabled", "no turn of a conversation is left out silently")
    ] = None
    reasoning: ReasoningBody | None = None
    conversation: Annotated[
        None, unless_none("conversations are not kept as objects; continue by previous_response_id")
    ] = None

    def items(self) -> Sequence[StorableItem | ReferenceBody]:
        """The request's own items; a text is one turn of the user. Raises InvalidRequest if there are none."""
        if isinstance(self.input, str):
            return [ItemMessage(role="user", content=self.input)]
        kept = (*response_items.StorableItem.__args__, ReferenceBody)
        items = [item for item in self.input or () if isinstance(item, kept)]
        if not items and self.previous_response_id is None:
            raise InvalidRequest("missing_field", "this field is required: a text, or a list of items.", "input")
        return items

    def chat_request(self, earlier: Sequence[Item], items: Sequence[Item]) -> ChatRequest:
        """The request as the service takes it: `earlier` items of the conversation, then this request's own.

        Raises InvalidRequest for fields that contradict each other.
        """
        chat = response_items.turns(self.instructions, earlier, items)
        if len(chat) > MAX_ITEMS:
            raise InvalidRequest("too_many_items", f"a conversation has at most {MAX_ITEMS} turns.", "input")
        return ChatRequest(
            messages=chat,
            sampling=self.sampling(),
            tool_use=response_tools.tool_use(self.tools or [], self.tool_choice, self.parallel_tool_calls is not False),
            schema=self.text.format.schema_of_answer() if self.text and self.text.format else None,
            top_log_probs=self.log_probs,
        )

    @property
    def log_probs(self) -> int | None:
        """How many alternatives each token's log-probability has; None if none are asked for."""
        return None

    def sampling(self) -> Sampling:
        """The sampling parameters as engines spell them."""
        return Sampling({})

    def tools_echo(self) -> list[dict[str, Any]]:
        """The tools as the response repeats them."""
        return [tool.echo() for tool in self.tools or () if isinstance(tool, FunctionTool)]


class ResponseBody(PromptBody):
    """POST /responses: a conversation, and how the model is to answer it."""

    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    store: bool | None = None
    background: bool | None = None
    include: Annotated[list[Includable], Field(max_length=16)] | None = None
    max_output_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    metadata: Metadata | None = None
    max_tool_calls: int | None = Field(default=None, ge=1, le=2**31 - 1)
    """A limit on calls of a server's tools, of which there are none."""

    # Taken and kept to themselves: they tell the vendor who asks, and change no answer.
    user: _Id | None = None
    safety_identifier: Annotated[str, Field(max_length=128)] | None = None
    prompt_cache_key: _Id | None = None
    # Taken and without effect, which the header x-luthier-without-effect says: no word of an answer depends on them.
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None

    prompt: Annotated[None, unless_none("no prompts are kept here; send instructions and input")] = None
    context_management: Annotated[None, unless_none("conversations are not compacted here")] = None
    moderation: Annotated[None, unless_none("no moderation runs here")] = None
    prompt_cache_options: Annotated[None, unless_none("how prompts are cached cannot be chosen")] = None
    access_programs: Annotated[None, unless_none("there are no access programs here")] = None
    background_options: Annotated[None, unless_none("a response in the background begins at once")] = None
    image: Annotated[None, unless_none("models here see no images")] = None

    @property
    def is_stored(self) -> bool:
        """Whether the response is to be kept for later requests: unless the caller says no."""
        return self.store is not False

    @property
    def log_probs(self) -> int | None:
        """How many alternatives each token's log-probability has; None if none are asked for."""
        asked = bool(self.top_logprobs) or LOG_PROBS in (self.include or ())
        return (self.top_logprobs or 0) if asked else None

    def check(self) -> None:
        """Raises InvalidRequest for fields that contradict each other."""
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("invalid_value", "stream_options go with stream: true alone.", "stream_options")
        if self.background and not self.is_stored:
            raise InvalidRequest("invalid_value", "a response in the background is stored; leave out store.", "store")

    def sampling(self) -> Sampling:
        """The sampling parameters as engines spell them; OpenAI's defaults are written out, as engines' own differ."""
        fields: dict[str, Any] = {
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "top_p": 1.0 if self.top_p is None else self.top_p,
        }
        if self.max_output_tokens is not None:
            fields["max_tokens"] = self.max_output_tokens
        return Sampling(fields)

    def without_effect(self) -> tuple[str, ...]:
        """The fields that were sent, ask for something, and change nothing here."""
        asked = {
            "service_tier": self.service_tier not in (None, "auto", "default"),
            "prompt_cache_retention": self.prompt_cache_retention is not None,
        }
        return tuple(name for name, is_asked in asked.items() if is_asked)

    def settings(self) -> dict[str, Any]:
        """What the response repeats of its request, as the wire has it."""
        choice = self.tool_choice
        format = self.text.format.echo() if self.text and self.text.format else {"type": "text"}
        return {
            "background": bool(self.background),
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": self.max_tool_calls,
            "metadata": self.metadata or {},
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "previous_response_id": self.previous_response_id,
            "prompt_cache_key": self.prompt_cache_key,
            "reasoning": {"effort": None, "summary": None},
            "safety_identifier": self.safety_identifier,
            "service_tier": "default",
            "store": self.is_stored,
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "text": {"format": format, "verbosity": "medium"},
            "tool_choice": choice.model_dump() if isinstance(choice, BaseModel) else choice or "auto",
            "tools": self.tools_echo(),
            "top_logprobs": self.top_logprobs or 0,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            "truncation": "disabled",
            "user": self.user,
        }


class TokenCountBody(PromptBody):
    """POST /responses/input_tokens: a conversation whose tokens are counted as a response's would be."""

    personality: Annotated[None, unless_none("models here have no personalities to choose from")] = None
