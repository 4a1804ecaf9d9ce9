"""Example -> token ids and per-token loss weights, by the model's own chat template; and the chat prompt of serving."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from luthier.data.rendering import template_messages, tool_samples
from luthier.data.rendering.control_text import ControlTexts
from luthier.data.rendering.template_messages import template_message
from luthier.data.rendering.template_text import TemplateRefused, TemplateTooCostly
from luthier.data.rows.supervised import Example, Message, Role
from luthier.data.tools import prompt_format
from luthier.data.tools.prompt_format import TemplateMessage


class ChatTokenizer(Protocol):
    """A model's tokenizer and chat template: `end_ids` end a turn, `eos_id` is the tokenizer's own end, or None."""

    @property
    def end_ids(self) -> frozenset[int]: ...

    @property
    def eos_id(self) -> int | None: ...

    @property
    def controls(self) -> ControlTexts:
        """The tokenizer's control tokens, as texts spell them."""
        ...

    def text(
        self,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[Mapping[str, object]],
        add_generation_prompt: bool,
    ) -> str:
        """The template's text for messages. Raises TemplateRefused where the template does."""
        ...

    def token_ids(self, text: str) -> list[int]:
        """The token ids of a text, control tokens recognised but where they are marked as text, none added."""
        ...


class Unrenderable(Exception):
    """An example that cannot become tokens; code, message and fix as in a Problem, without text of the row."""

    def __init__(self, code: str, message: str, fix: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Rendered:
    """One training sequence: token ids, and for each the weight of its loss, 0.0 for what the model only reads."""

    token_ids: tuple[int, ...]
    loss_weights: tuple[float, ...]
    prompt_tokens: int
    """How many tokens precede the first learned one: the chat prompt of the first learned answer."""


class Renderer:
    """Renders examples for one model; a token sequence longer than `context_tokens` is refused, never cut.

    Making one renders a sample chat. Tools go through the model's own template where it knows them, and are written out
    by `prompt_format` where it does not: so they are served.
    """

    def __init__(self, tokenizer: ChatTokenizer, context_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._context_tokens = context_tokens
        self.renders_tools = tool_samples.renders_tools(tokenizer)
        """Whether the model's own template writes out tools and calls."""
        self.call_form = tool_samples.call_form(tokenizer) if self.renders_tools else None
        """How the template writes calls; None where it writes none, or none that we can read."""
        self._blank_tails: set[tuple[int, ...]] = set()
        # A newline is one token, unless the tokenizer puts a space before each text (Llama 2, Mistral 7B).
        self.adds_space = len(tokenizer.token_ids("\n")) > 1

    def chat_prompt(self, messages: Sequence[Message], tools: Sequence[Mapping[str, object]] = ()) -> list[int]:
        """The token ids that a served model reads before its next assistant message. Raises Unrenderable."""
        return self._tokenizer.token_ids(self.text(messages, tools, True))

    def token_ids(self, text: str) -> list[int]:
        """The token ids of a text that `text` or `text_of_turns` made."""
        return self._tokenizer.token_ids(text)

    def render(self, example: Example) -> tuple[Rendered, ...]:
        """The sequences that teach each learned answer after exactly the prompt of serving. Raises Unrenderable.

        One sequence as a rule. Where the prompt of a later answer does not begin with the tokens so far (a template
        that drops old reasoning from history, a tokenizer that merges across an answer's first character), that answer
        starts a sequence of its own, so that chat_prompt(messages[:k]) is a prefix of what trains message k.
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
        """The prompt of message `index`, and all the text that the template writes behind it. Raises Unrenderable."""
        prompt = self.text(example.messages[:index], example.tools, True)
        full_text = self.text(example.messages[: index + 1], example.tools, False)
        if not full_text.startswith(prompt):
            raise Unrenderable(
                "template_breaks_prefix",
                f"the base model's chat template changes what comes before messages[{index}] once it is answered.",
                "Use another order of messages (begin with system or user), or another base model.",
            )
        return prompt, full_text[len(prompt) :]

    def writes_end(self, example: Example, index: int) -> bool:
        """Whether the template itself writes an end-of-turn token behind message `index`. Raises Unrenderable."""
        _, answer = self.turn(example, index)
        return not self._tokenizer.end_ids.isdisjoint(self._tokenizer.token_ids(answer))

    def _turn_ids(self, example: Example, index: int) -> tuple[list[int], list[int]]:
        """The prompt's ids, and what the model writes as message `index`, its end token included. Raises Unrenderable.

        If the template writes no such token, the tokenizer's own end token follows the answer: what never learns to
        stop cannot be served. The next prompt does not have it, so later answers are learned apart.
        """
        prompt, answer = self.turn(example, index)
        prompt_ids = self._tokenizer.token_ids(prompt)
        answer_ids = self._answer_ids(prompt, prompt_ids, answer)
        ends = [position for position, token in enumerate(answer_ids) if token in self._tokenizer.end_ids]
        if not ends and self._tokenizer.eos_id is not None and self._is_last(example.messages[index], answer):
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
        """Whether the tokens behind the last end token are blank text; if not, that end was not the answer's own."""
        tail = tuple(tail_ids)
        if tail and tail not in self._blank_tails:
            if self._tokenizer.token_ids(answer.rstrip())[-1] not in self._tokenizer.end_ids:
                return False
            self._blank_tails.add(tail)
        return True

    def _is_last(self, message: Message, answer: str) -> bool:
        """Whether the template writes nothing but blanks behind the message's content; True for one with calls."""
        content = str(self._tokenizer.controls.marked(message.content)).strip()
        return bool(message.tool_calls) or (content != "" and answer.rstrip().endswith(content))

    def _answer_ids(self, prompt: str, prompt_ids: list[int], answer: str) -> list[int]:
        """The answer's ids behind the prompt's; alone, a text may get a space that the model never writes."""
        if self.adds_space:
            whole_ids = self._tokenizer.token_ids(prompt + answer)
            if whole_ids[: len(prompt_ids)] == prompt_ids:
                return whole_ids[len(prompt_ids) :]
        return self._tokenizer.token_ids(answer)

    def text(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, object]], add_generation_prompt: bool
    ) -> str:
        """The chat template's text of messages, control tokens in them marked. Raises Unrenderable."""
        return self.text_of_turns([template_message(message) for message in messages], tools, add_generation_prompt)

    def text_of_turns(
        self,
        turns: Sequence[TemplateMessage],
        tools: Sequence[Mapping[str, object]],
        add_generation_prompt: bool,
        folds_tools: bool | None = None,
    ) -> str:
        """The same for turns as templates take them; control tokens in their texts are marked in the text that is made.

        `folds_tools`: whether tools are written out by `prompt_format`; None for wherever the template has none itself.
        """
        turns = [self._marked_turn(turn) for turn in turns]
        if tools and self._tokenizer.controls.need_marks(tools):
            tools = [self._marked_tool(tool) for tool in tools]
        folds = not self.renders_tools if folds_tools is None else folds_tools
        if folds and (tools or any(map(_uses_tools, turns))):
            turns, tools = prompt_format.fold_tools(turns, tools), ()
        turns = [template_messages.wrap_unparsed_arguments(turn) for turn in turns]
        try:
            return self._tokenizer.text(turns, tools, add_generation_prompt)
        except TemplateTooCostly as error:
            raise Unrenderable(
                "template_too_costly",
                f"the base model's chat template cannot render this example within its bounds: {error}.",
                "Shorten the example or split it, or choose another base model.",
            ) from None
        except TemplateRefused:
            roles = ", ".join(str(turn["role"]) for turn in turns) or "none"
            raise Unrenderable(
                "template_refuses_messages",
                f"the base model's chat template does not accept messages in this order of roles: {roles}.",
                "Let user and assistant take turns after at most one system message.",
            ) from None

    def spells_control(self, text: str) -> bool:
        """Whether a text that the template made contains a control token."""
        return self._tokenizer.controls.are_in(text)

    def holds_controls(self, example: Example) -> bool:
        """Whether a text of the example, its tools included, spells a control token."""
        return self.need_marks([template_message(message) for message in example.messages], example.tools)

    def need_marks(self, turns: Sequence[TemplateMessage], tools: Sequence[Mapping[str, object]]) -> bool:
        """Whether turns, as templates take them, or tools spell a control token or hold its mark."""
        need_marks = self._tokenizer.controls.need_marks
        return any(need_marks(part) for turn in turns for part in turn.values()) or (bool(tools) and need_marks(tools))

    def _marked_turn(self, turn: TemplateMessage) -> TemplateMessage:
        """The turn with control tokens in its values, the role aside, marked; the turn itself if there are none."""
        controls = self._tokenizer.controls
        if not any(map(controls.need_marks, turn.values())):
            return turn
        marked = controls.marked(turn)
        assert isinstance(marked, dict)
        return {**marked, "role": turn["role"]}

    def _marked_tool(self, tool: Mapping[str, object]) -> Mapping[str, object]:
        """The tool with control tokens in its strings marked."""
        marked = self._tokenizer.controls.marked(tool)
        assert isinstance(marked, dict)
        return marked

    def _check_length(self, n_tokens: int) -> None:
        """Raises Unrenderable for more tokens than the model reads."""
        if n_tokens > self._context_tokens:
            raise too_many_tokens(n_tokens, self._context_tokens)


def _uses_tools(turn: TemplateMessage) -> bool:
    return bool(turn.get("tool_calls")) or turn["role"] in (Role.TOOL, Role.FUNCTION)


def too_many_tokens(n_tokens: int, context_tokens: int, at_least: bool = False) -> Unrenderable:
    """Makes the error for an example longer than the context. Raises nothing itself."""
    least = "at least " if at_least else ""
    return Unrenderable(
        "too_many_tokens",
        f"the example has {least}{n_tokens:,} tokens; the base model reads at most {context_tokens:,}, so that "
        f"{least}{n_tokens - context_tokens:,} would be lost.",
        "Shorten it or split it. Nothing is ever cut off silently.",
    )


def _rendered(token_ids: list[int], weights: list[float]) -> Rendered:
    """The Rendered of a sequence, which must have a weight above 0."""
    first = next(index for index, weight in enumerate(weights) if weight)
    return Rendered(tuple(token_ids), tuple(weights), first)
