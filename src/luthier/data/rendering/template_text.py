"""Renders a chat template to text, and says how one refuses; for the trainer's and the torch-free tokenizer."""

from collections.abc import Mapping, Sequence

import jinja2

from luthier.chat_templates import sandbox
from luthier.chat_templates.render_cost import TooCostly


class TemplateRefused(Exception):
    """The model's chat template raised an error for these messages, or failed on them; it carries no text of theirs."""


class TemplateTooCostly(TemplateRefused):
    """The template would take more time or memory for these messages than is allowed; the message says which."""


def render(
    template: jinja2.Template,
    messages: Sequence[Mapping[str, object]],
    tools: Sequence[Mapping[str, object]],
    add_generation_prompt: bool,
) -> str:
    """The text of messages, by a template of `sandbox.compile_template`.

    Raises TemplateRefused where the template does, TemplateTooCostly beyond its limits; neither quotes the messages.
    """
    try:
        return sandbox.render(template, messages, tools, add_generation_prompt)
    except TooCostly as error:
        raise TemplateTooCostly(str(error)) from None
    except jinja2.TemplateError:
        # A template's message may quote the user's row, and it must not reach the log.
        raise TemplateRefused from None
