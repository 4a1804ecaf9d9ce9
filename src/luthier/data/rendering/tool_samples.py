"""What a chat template does with tools, seen by a sample: whether it writes them out, and how it writes calls."""

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

from luthier.data.rendering.control_text import ControlTexts
from luthier.data.rendering.template_text import TemplateRefused
from luthier.data.tools import call_form as forms
from luthier.data.tools.call_form import CallForm

_NAMES = ("look_up_word", "count_letters")
_ARGUMENTS = ({"word": "axolotl"}, {"text": "salamander"})
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Tells something about words.",
            "parameters": {"type": "object", "properties": {key: {"type": "string"}}, "required": [key]},
        },
    }
    for name, arguments in zip(_NAMES, _ARGUMENTS, strict=True)
    for key in arguments
]
_CALLS = [
    {"id": f"call0000{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
    for number, (name, arguments) in enumerate(zip(_NAMES, _ARGUMENTS, strict=True), 1)
]
_QUESTION = {"role": "user", "content": "What is it?"}


class Template(Protocol):
    """A tokenizer's chat template, as renderer.ChatTokenizer has it."""

    @property
    def controls(self) -> ControlTexts: ...

    def text(
        self,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[Mapping[str, object]],
        add_generation_prompt: bool,
    ) -> str: ...


def renders_tools(tokenizer: Template) -> bool:
    """Whether the template writes out both tools and calls: llama.cpp decides by the same test.

    False where it refuses the sample or is too costly for it; raises nothing.
    """
    offered, called = _calls_text(tokenizer, 1)
    return _NAMES[0] in offered and "axolotl" in called


def call_form(tokenizer: Template) -> CallForm | None:
    """How the template writes calls; None if it writes none, or none that we can read. Raises nothing."""
    _, one = _calls_text(tokenizer, 1)
    _, two = _calls_text(tokenizer, 2)
    arguments = [json.dumps(each) for each in _ARGUMENTS]
    return forms.detect(_NAMES, arguments, one, two or None, sorted(tokenizer.controls.texts))


def _calls_text(tokenizer: Template, n: int) -> tuple[str, str]:
    """The template's text of a question with tools, and of `n` calls behind it; two empty ones if it refuses."""
    answer = {"role": "assistant", "content": "", "tool_calls": _CALLS[:n]}
    try:
        offered = tokenizer.text([_QUESTION], _TOOLS, True)
        called = tokenizer.text([_QUESTION, answer], _TOOLS, False)
    except TemplateRefused:
        return "", ""
    return offered, called.removeprefix(offered)
