"""Example -> token ids and per-token loss weights, by the model's own chat template; and the chat prompt itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from luthier.data import tool_prompt
from luthier.data.messages import Example, Message, Role


class ChatTokenizer(Protocol):
    """A model's tokenizer and chat template. `end_ids` are the tokens that end a turn, `eos_id` the tokenizer's own."""

    @property
    def end_ids(self) -> frozenset[int]: ...

    @property
    def eos_id(self) -> int | None: ...

    def text(
        self,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[Mapping[str, object]],
        add_generation_prompt: bool,
    ) -> str:
        """The template's text. Raises TemplateRefuses where the template does."""
        ...

    def token_ids(self, text: str) -> list[int]:
        """The tokens of a text, special ones recognised, none added."""
        ...


_TOOL = {
    "type": "function",
    "function": {
        "name": "look_up_word",
        "description": "Looks a word up.",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    },
}
_CALL = {"id": "call00001", "type": "function", "function": {"name": "look_up_word", "arguments": {"word": "axolotl"}}}


class TemplateRefuses(Exception):
    """The model's chat template raised an error of its own for these messages."""


class Unrenderable(Exception):
    """An example that cannot become tokens; code and message as in a Problem, without text of the row."""

    def __init__(self, code: str, message: str, fix: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Rendered:
    """A token sequence and for each token the weight of its loss: 0.0 for what the model only reads."""

    token_ids: tuple[int, ...]
    loss_weights: tuple[float, ...]
    prompt_tokens: int
    """How many tokens stand before the first learned one: the chat prompt of the first learned answer."""


class Renderer:
    """Renders examples for one model; a token sequence longer than `context_tokens` is refused, never cut.

    Tools go through the model's own template where it knows them, and are written out by `tool_prompt` where it does
    not: so they are served.
    """

    def __init__(self, tokenizer: ChatTokenizer, context_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._context_tokens = context_tokens
        self._renders_tools = renders_tools(tokenizer)
        self._blank_tails: set[tuple[int, ...]] = set()
        # A newline is one token, unless the tokenizer puts a space before each text (Llama 2, Mistral 7B).
        self.adds_space = len(tokenizer.token_ids("\n")) > 1

    def chat_prompt(self, messages: Sequence[Message], tools: Sequence[Mapping[str, object]] = ()) -> list[int]:
        """The tokens that a served model reads before it writes the next assistant message."""
        return self._tokenizer.token_ids(self.text(messages, tools, True))

    def render(self, example: Example) -> tuple[Rendered, ...]:
        """The sequences that teach each learned answer after exactly the prompt that serving gives; or Unrenderable.

        One sequence as a rule. Where the prompt of a later answer does not begin with the tokens so far (a template
        that drops old reasoning from history, a tokenizer that merges across an answer's first character), that
        answer starts a sequence of its own, so that chat_prompt(messages[:k]) is a prefix of what trains message k.
        """
        sequences: list[Rendered] = []
        token_ids: list[int] = []
        weights: list[float] = []
        for index, message in enumerate(example.messages):
            if message.role is not Role.ASSISTANT or not message.weight:
                continue
            prompt_ids, answer_ids = self._turn_ids(example, index)
            if weights and prompt_ids[: len(token_ids)] != token_ids:
                sequences.append(_rendered(token_ids, weights))
                weights = []
            weights += [0.0] * (len(prompt_ids) - len(weights)) + [message.weight] * len(answer_ids)
            token_ids = prompt_ids + answer_ids
            self._check_length(len(token_ids))
        sequences.append(_rendered(token_ids, weights))
        return tuple(sequences)

    def turn(self, example: Example, index: int) -> tuple[str, str]:
        """The text of the prompt of message `index`, and all that the template writes behind it. Or Unrenderable."""
        prompt = self.text(example.messages[:index], example.tools, True)
        whole = self.text(example.messages[: index + 1], example.tools, False)
        if not whole.startswith(prompt):
            raise Unrenderable(
                "template_breaks_prefix",
                f"the base model's chat template changes what stands before messages[{index}] once it is answered.",
                "Use another order of messages (begin with system or user), or another base model.",
            )
        return prompt, whole[len(prompt) :]

    def writes_end(self, example: Example, index: int) -> bool:
        """Whether the template itself writes an end-of-turn token behind message `index`. Raises Unrenderable."""
        _, answer = self.turn(example, index)
        return not self._tokenizer.end_ids.isdisjoint(self._tokenizer.token_ids(answer))

    def _turn_ids(self, example: Example, index: int) -> tuple[list[int], list[int]]:
        """The prompt of message `index` and what the model has to write there, its end-of-turn token included.

        Where the template writes no such token, the tokenizer's own end stands right behind the answer: what never
        learns to stop cannot be served. The next prompt does not have it, so later answers are learned apart.
        """
        prompt, answer = self.turn(example, index)
        prompt_ids = self._tokenizer.token_ids(prompt)
        answer_ids = self._answer_ids(prompt, prompt_ids, answer)
        ends = [place for place, token in enumerate(answer_ids) if token in self._tokenizer.end_ids]
        if not ends and self._tokenizer.eos_id is not None and _is_last(example.messages[index], answer):
            return prompt_ids, [*self._answer_ids(prompt, prompt_ids, answer.rstrip()), self._tokenizer.eos_id]
        if not ends or not self._is_blank(answer, answer_ids[ends[-1] + 1 :]):
            raise Unrenderable(
                "template_without_end",
                "the base model's chat template writes no end-of-turn token right after this answer.",
                "Choose another base model: a model that never learns to stop cannot be served.",
            )
        # What the template writes behind the end token (a newline in ChatML) is never the model's to write.
        return prompt_ids, answer_ids[: ends[-1] + 1]

    def _is_blank(self, answer: str, tail_ids: list[int]) -> bool:
        """Whether the tokens behind the last end are space: else that end was not the answer's own."""
        tail = tuple(tail_ids)
        if tail and tail not in self._blank_tails:
            if self._tokenizer.token_ids(answer.rstrip())[-1] not in self._tokenizer.end_ids:
                return False
            self._blank_tails.add(tail)
        return True

    def _answer_ids(self, prompt: str, prompt_ids: list[int], answer: str) -> list[int]:
        """The answer's tokens behind the prompt's. By itself, a text would get a space that the model never writes."""
        if self.adds_space:
            whole_ids = self._tokenizer.token_ids(prompt + answer)
            if whole_ids[: len(prompt_ids)] == prompt_ids:
                return whole_ids[len(prompt_ids) :]
        return self._tokenizer.token_ids(answer)

    def text(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, object]], add_generation_prompt: bool
    ) -> str:
        """What the chat template makes of messages. Raises Unrenderable where it takes none such."""
        turns = [template_message(message) for message in messages]
        if not self._renders_tools and (tools or any(map(_is_of_tools, messages))):
            turns, tools = tool_prompt.fold(turns, tools), ()
        try:
            return self._tokenizer.text(turns, tools, add_generation_prompt)
        except TemplateRefuses:
            roles = ", ".join(message.role for message in messages) or "none"
            raise Unrenderable(
                "template_refuses_messages",
                f"the base model's chat template does not take messages in this order of roles: {roles}.",
                "Let user and assistant take turns after at most one system message.",
            ) from None

    def _check_length(self, n_tokens: int) -> None:
        if n_tokens > self._context_tokens:
            raise too_many_tokens(n_tokens, self._context_tokens)


def _is_last(message: Message, answer: str) -> bool:
    """Whether the template writes nothing but space behind what the message says."""
    said = message.content.strip()
    return bool(message.tool_calls) or (said != "" and answer.rstrip().endswith(said))


def _is_of_tools(message: Message) -> bool:
    return bool(message.tool_calls) or message.role in (Role.TOOL, Role.FUNCTION)


def renders_tools(tokenizer: ChatTokenizer) -> bool:
    """Whether the model's own template writes out both the tools and the calls: llama.cpp asks the same of it."""
    question = {"role": "user", "content": "What is it?"}
    call = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
    try:
        offered = tokenizer.text([question], [_TOOL], True)
        called = tokenizer.text([question, call], [_TOOL], False)
    except TemplateRefuses:
        return False
    return "look_up_word" in offered and "axolotl" in called.removeprefix(offered)


def too_many_tokens(n_tokens: int, context_tokens: int, at_least: bool = False) -> Unrenderable:
    """What is wrong with an example that the model cannot read whole."""
    least = "at least " if at_least else ""
    return Unrenderable(
        "too_many_tokens",
        f"the example has {least}{n_tokens:,} tokens; the base model reads at most {context_tokens:,}, so that "
        f"{least}{n_tokens - context_tokens:,} would be lost.",
        "Shorten it or split it. Nothing is ever cut off silently.",
    )


def template_message(message: Message) -> dict[str, object]:
    """A message as chat templates take it; a developer's is a system message, for templates know no developer."""
    role = Role.SYSTEM if message.role is Role.DEVELOPER else message.role
    value: dict[str, object] = {"role": role.value, "content": message.content}
    if message.tool_calls:
        value["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        value["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        value["name"] = message.name
    return value


def _rendered(token_ids: list[int], weights: list[float]) -> Rendered:
    first = next(place for place, weight in enumerate(weights) if weight)
    return Rendered(tuple(token_ids), tuple(weights), first)
