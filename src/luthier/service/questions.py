"""What a caller asks of a model, in the service's own words, and what an engine is asked for it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from luthier.core.errors import Unsupported
from luthier.data import tool_grammar, tool_prompt

ENGINE_SEEDS = 2**32 - 1
"""Engines take 32 bits of a seed, and all ones mean "any" to llama.cpp: the wire's 64 bits are folded below that."""

Json = Mapping[str, Any]


class Calls(StrEnum):
    """Whether an answer may call functions."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call: `definition` is what it is told, `arguments` the schema that calls are held to.

    The two differ in keywords that no grammar knows (`data.json_schema`).
    """

    name: str
    definition: Json
    arguments: Json


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The functions of a question: all that the model is told of, and those that it may call now."""

    tools: tuple[Tool, ...] = ()
    callable: tuple[Tool, ...] = ()
    calls: Calls = Calls.NONE
    parallel: bool = True
    as_functions: bool = False
    """Asked in the spelling of old, `functions`, and so to be answered in it."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen: `fields` as engines spell them, `seed` None for any, `n` answers to one prompt."""

    fields: Json
    seed: int | None = None
    n: int = 1

    def for_engine(self, place: int) -> dict[str, Any]:
        """The fields for the `place`-th answer: answers of one seed would all be the same."""
        seed = {} if self.seed is None else {"seed": (self.seed + place) % ENGINE_SEEDS}
        return {**self.fields, **seed}


@dataclass(frozen=True, slots=True)
class ChatQuestion:
    """A chat completion. `messages` are as chat templates take them: the arguments of calls are decoded.

    `top_logprobs` is None where no log-probabilities are asked for; `schema` is what the answer's JSON must fit.
    """

    messages: tuple[Json, ...]
    sampling: Sampling
    tool_use: ToolUse = ToolUse()
    schema: Json | None = None
    top_logprobs: int | None = None

    @property
    def max_tokens(self) -> int:
        return int(self.sampling.fields["max_tokens"])

    def for_engine(self, place: int, renders_tools: bool) -> dict[str, Any]:
        """The body for the `place`-th answer. Raises Unsupported for what this model's template leaves no way to."""
        body = self.sampling.for_engine(place)
        if self.top_logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": max(1, self.top_logprobs)}
        # A call that must be made is held to our own form for every model: llama.cpp's grammar of a template's own form
        # was seen to let prose through (docs/serving.md).
        native = renders_tools and self.tool_use.calls is not Calls.REQUIRED
        return body | (self._native() if native else self._in_words())

    def _in_words(self) -> dict[str, Any]:
        use = self.tool_use
        may_call = use.calls is not Calls.NONE
        told = [tool.definition for tool in use.tools] if may_call else []
        body: dict[str, Any] = {"messages": tool_prompt.fold(self.messages, told)}
        if may_call or self.schema is not None:
            body["grammar"] = tool_grammar.of_answer(
                {tool.name: tool.arguments for tool in use.callable} if may_call else {},
                must_call=use.calls is Calls.REQUIRED,
                parallel=use.parallel,
                schema=self.schema,
            )
        return body

    def _native(self) -> dict[str, Any]:
        """For a model whose own template renders tools: the engine then holds answers to the form it was taught."""
        use = self.tool_use
        body: dict[str, Any] = {"messages": [_wire_turn(message) for message in self.messages]}
        if use.tools:
            body["tools"] = [tool.definition for tool in (use.callable or use.tools)]
            body["tool_choice"] = str(use.calls)
            body["parallel_tool_calls"] = use.parallel
        if self.schema is not None:
            if use.calls is not Calls.NONE:
                raise Unsupported(
                    "tools_with_schema",
                    "This model cannot be held to a schema and offered tools at once; leave one of them out.",
                    "response_format",
                )
            body["grammar"] = tool_grammar.of_answer({}, must_call=False, parallel=False, schema=self.schema)
        return body


@dataclass(frozen=True, slots=True)
class CompletionQuestion:
    """A legacy completion of one or more prompts, each a text or a list of token ids.

    `best_of` answers are computed for each that is given; `logprobs` is None where none are asked for.
    """

    prompts: tuple[str | Sequence[int], ...]
    sampling: Sampling
    best_of: int = 1
    echo: bool = False
    logprobs: int | None = None

    @property
    def max_tokens(self) -> int:
        return int(self.sampling.fields["max_tokens"])

    def candidates(self) -> list[dict[str, Any]]:
        """The engine's bodies in the order of prompts, `best_of` to each."""
        asked = max(1, self.logprobs or 0) if self.logprobs is not None or self.best_of > self.sampling.n else None
        sampling = self.sampling
        if asked is not None:
            sampling = replace(sampling, fields={**sampling.fields, "logprobs": asked})
        return [
            {**sampling.for_engine(place), "prompt": prompt if isinstance(prompt, str) else list(prompt)}
            for prompt in self.prompts
            for place in range(self.best_of)
        ]


def _wire_turn(turn: Json) -> dict[str, Any]:
    """A turn with the arguments of its calls as the wire has them: JSON in a string."""
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in turn.get("tool_calls", ())
    ]
    return {**turn, "tool_calls": calls} if calls else dict(turn)
