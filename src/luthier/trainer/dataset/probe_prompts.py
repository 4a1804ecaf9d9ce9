"""The prompts of a model's probes: four fixed ones, and the first training examples that are short and plain enough."""

from dataclasses import dataclass, field

from luthier.data.rendering.renderer import Renderer
from luthier.data.rows.supervised import Example, Message, Role

MAX_EXAMPLES = 4
MAX_PROMPT_TOKENS = 512

Prompt = tuple[Message, ...]


def _fixed(system: str | None, user: str) -> Prompt:
    turns = [] if system is None else [Message(Role.SYSTEM, system, 0.0)]
    return (*turns, Message(Role.USER, user, 0.0))


FIXED = (
    _fixed(None, "Name three primary colours."),
    _fixed(None, "Write one sentence about the sea."),
    _fixed("You are a careful assistant who answers briefly.", "What is 12 plus 30?"),
    _fixed("Answer as a patient teacher.", "Why is the sky blue?\nGive two short reasons."),
)


@dataclass(frozen=True, slots=True)
class PromptSelection:
    """Collects the probe prompts of a training file while its examples are read: the first MAX_EXAMPLES that fit."""

    renderer: Renderer
    prompts: list[Prompt] = field(default_factory=list)

    def add_example(self, example: Example) -> None:
        """Takes the prompt before the first learned message, unless it has tool calls, is long or a repetition.

        Does nothing once there are enough.
        """
        if len(self.prompts) == MAX_EXAMPLES:
            return
        first_learned = next(index for index, message in enumerate(example.messages) if message.weight)
        prompt = example.messages[:first_learned]
        is_plain = not example.tools and all(not message.tool_calls for message in prompt)
        is_new = prompt not in FIXED and prompt not in self.prompts
        if is_plain and is_new and len(self.renderer.chat_prompt(prompt)) <= MAX_PROMPT_TOKENS:
            self.prompts.append(prompt)
