"""What a caller asks of a model, as values, and the requests to an engine that it takes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol, cast

from luthier.core.engine_ports import EngineRequest
from luthier.core.errors import Unsupported
from luthier.data.rendering import template_messages
from luthier.data.tools import answer_grammar, prompt_format
from luthier.data.tools.call_form import OURS, CallForm

ENGINE_SEEDS = 2**32 - 1
"""Engines take seeds of 32 bits, and all ones mean "any" to llama.cpp: the wire's 64 bits are folded below that."""

Json = Mapping[str, Any]


class ToolChoice(StrEnum):
    """Whether an answer may or must call tools."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call: `definition` is what the prompt shows, `arguments` the schema of its calls.

    The two differ in keywords that no grammar supports (`data.schemas.response_schema`).
    """

    name: str
    definition: Json
    arguments: Json


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of a request: all that the prompt shows, and those that the answer may call.

    `parallel` is whether one answer may have several calls.
    """

    tools: tuple[Tool, ...] = ()
    callable: tuple[Tool, ...] = ()
    choice: ToolChoice = ToolChoice.NONE
    parallel: bool = True

    @property
    def can_call(self) -> bool:
        return self.choice is not ToolChoice.NONE

    @property
    def must_call(self) -> bool:
        return self.choice is ToolChoice.REQUIRED


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters: `fields` as engines spell them, `seed` None for any, `n` answers to one prompt."""

    fields: Json
    seed: int | None = None
    n: int = 1

    def of_answer(self, index: int) -> dict[str, Any]:
        """The fields for the `index`-th answer, each with a seed of its own: otherwise all would be the same."""
        seed = {} if self.seed is None else {"seed": (self.seed + index) % ENGINE_SEEDS}
        return {**self.fields, **seed}


class AnswerMatcher(Protocol):
    """The state of one answer in its grammar."""

    def accepts(self, text: str) -> bool:
        """Whether the answer so far, followed by this text, is a prefix of one that the grammar accepts.

        The text is then part of the answer so far.
        """
        ...

    def is_complete(self) -> bool:
        """Whether the grammar accepts the answer as it is."""
        ...


class AnswerConstraint(Protocol):
    """The grammar and the schemas that the answers to one request must match."""

    def new_matcher(self) -> AnswerMatcher | None:
        """For one more answer; None if the engine's own grammar is in charge."""
        ...

    def breaks_schema(self, text: str) -> bool:
        """Whether a complete answer does not match the schema of the response format."""
        ...

    def breaks_tool_schema(self, name: str, arguments: str) -> bool:
        """Whether the complete arguments of a call do not match that tool's schema."""
        ...


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat completion. `messages` are as chat templates take them: the arguments of calls are decoded, or a text.

    `top_log_probs` is None if no log-probabilities are asked for; `schema` is that of the answer's JSON.
    """

    messages: tuple[Json, ...]
    sampling: Sampling
    tool_use: ToolUse = ToolUse()
    schema: Json | None = None
    top_log_probs: int | None = None
    prompt_ids: tuple[int, ...] | None = None
    """The prompt in tokens, if its text contains control tokens; set by `served_prompts`."""
    call_form: CallForm = OURS
    """How calls stand in the answer, if its prompt is in tokens; set by `served_prompts`."""
    constraint: AnswerConstraint | None = None
    """What answers are checked against while they are streamed; set by `grammar_check`."""

    def grammar(self) -> str | None:
        """The grammar of an answer with calls in its form; None for free text."""
        use = self.tool_use
        if not use.can_call and self.schema is None:
            return None
        return answer_grammar.build_grammar(
            {tool.name: tool.arguments for tool in use.callable} if use.can_call else {},
            must_call=use.must_call,
            parallel=use.parallel,
            schema=self.schema,
            form=self.call_form,
        )

    def is_native(self, renders_tools: bool) -> bool:
        """Whether the model's own chat template renders the tools and the engine parses the calls.

        A required call is in our own format for every model: llama.cpp's grammar of a template's own format was seen to
        let prose through (docs/serving.md). `renders_tools` is whether that template knows tools.
        """
        return renders_tools and not self.tool_use.must_call and self.prompt_ids is None

    def shown_tools(self, is_native: bool) -> list[Json]:
        """The definitions of the tools that the prompt shows: natively those that may be called, or all if none may."""
        use = self.tool_use
        if is_native:
            return [tool.definition for tool in (use.callable or use.tools)]
        return [tool.definition for tool in use.tools] if use.can_call else []

    def engine_request(self, index: int, renders_tools: bool) -> dict[str, Any]:
        """The fields of the engine's request for the `index`-th answer: a prompt in tokens, or messages.

        Raises Unsupported for what the chat template cannot do.
        """
        fields = self.sampling.of_answer(index)
        if self.prompt_ids is not None:
            return fields | self._tokenized(self.prompt_ids)
        if self.top_log_probs is not None:
            fields |= {"logprobs": True, "top_logprobs": max(1, self.top_log_probs)}
        return fields | (self._native() if self.is_native(renders_tools) else self._folded())

    def _tokenized(self, prompt_ids: Sequence[int]) -> dict[str, Any]:
        """The fields of a completion of the rendered prompt: the engine generates the same answer as for the chat."""
        fields: dict[str, Any] = {"prompt": list(prompt_ids)}
        if self.top_log_probs is not None:
            fields["logprobs"] = max(1, self.top_log_probs)
        grammar = self.grammar()
        return fields if grammar is None else {**fields, "grammar": grammar}

    def _folded(self) -> dict[str, Any]:
        """The fields of a chat with the tools written into the messages, in our own format."""
        tools = self.shown_tools(is_native=False)
        fields: dict[str, Any] = {"messages": prompt_format.fold_tools(self.messages, tools)}
        grammar = self.grammar()
        if grammar is not None:
            fields["grammar"] = grammar
        return fields

    def _native(self) -> dict[str, Any]:
        """The fields for a chat template that renders tools itself; the engine then enforces that template's format.

        Raises Unsupported for tools together with a schema.
        """
        use = self.tool_use
        fields: dict[str, Any] = {"messages": [_wire_turn(message) for message in self.messages]}
        if use.tools:
            fields["tools"] = self.shown_tools(is_native=True)
            fields["tool_choice"] = str(use.choice)
            fields["parallel_tool_calls"] = use.parallel
        if self.schema is not None:
            if use.can_call:
                raise Unsupported(
                    "tools_with_schema",
                    "This model cannot be held to a schema and offered tools at once; leave one of them out.",
                    "response_format",
                )
            fields["grammar"] = self.grammar()
        return fields


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A legacy completion of one or more prompts, each a text or a list of token ids.

    Of `best_of` answers to each prompt the `sampling.n` best are returned; `log_probs` is None if none are asked for.
    """

    prompts: tuple[str | Sequence[int], ...]
    sampling: Sampling
    best_of: int = 1
    echo: bool = False
    log_probs: int | None = None

    @property
    def max_tokens(self) -> int:
        return int(self.sampling.fields["max_tokens"])

    def engine_requests(self) -> list[EngineRequest]:
        """The engine's requests in the order of prompts, `best_of` for each."""
        needs_log_probs = self.log_probs is not None or self.best_of > self.sampling.n
        sampling = self.sampling
        if needs_log_probs:
            sampling = replace(sampling, fields={**sampling.fields, "logprobs": max(1, self.log_probs or 0)})
        return [
            {**sampling.of_answer(index), "prompt": prompt if isinstance(prompt, str) else list(prompt)}
            for prompt in self.prompts
            for index in range(self.best_of)
        ]


def _wire_turn(turn: Json) -> dict[str, Any]:
    """A turn with the arguments of its calls as the wire has them: JSON in a string."""
    calls: list[Any] = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in cast(Sequence[Any], template_messages.wrap_unparsed_arguments(turn).get("tool_calls", ()))
    ]
    return {**turn, "tool_calls": calls} if calls else dict(turn)
