"""A base model's chat template as it is stored: its own or one that the catalog names, with a date that never moves.

`prepare` stores it; the loop asks for its peculiarities (`template_warnings`).
"""

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import jinja2

from luthier.chat_templates import sandbox
from luthier.core.errors import InvalidRequest
from luthier.data.rendering import template_diagnostics
from luthier.data.rendering.renderer import Renderer, Unrenderable

PINNED_DATE = date(2024, 7, 26)
"""What templates that print today's date print for ever: trained on one day, served on another, the prompt is the same.

It is the date that Llama 3.2's own template falls back to where there is no clock.
"""
_CLOCK = re.compile(r"""strftime_now\(\s*(?:"([^"]*)"|'([^']*)')\s*\)""")
_QUESTION, _ANSWER = "One?", "Two."
ADVICE = (
    'Name one in this model\'s entry of the catalog: chat_template = "chatml" (turns between <|im_start|> and '
    '<|im_end|>), "plain" (for any tokenizer), or the path of a .jinja file.'
)


def configure_template(causal: Any, tokenizer: Any, named: str | None) -> None:
    """Sets the tokenizer's chat template and the token that ends turns in the model's generation config, in place.

    `named` is the text of a template that takes the place of the model's own, None for that. Raises InvalidRequest
    where there is none or where it cannot be learned from.
    """
    template = named or tokenizer.chat_template
    if isinstance(template, dict):  # several by name, of which an engine reads one
        template = template.get("default")
    if not template:
        raise InvalidRequest("no_chat_template", f"The model has no chat template, so it cannot hold chats. {ADVICE}")
    tokenizer.chat_template = pinned(template)
    end = _turn_end(tokenizer)
    generation = causal.generation_config
    known = generation.eos_token_id
    ends = [] if known is None else known if isinstance(known, list) else [known]
    others = [one for one in ends if one != end]
    # The turn's own end first: it is the one that an engine takes where it may know but one (gguf_tokenizer).
    generation.eos_token_id = [end, *others] if others else end


def keep_spaces(path: Path) -> None:
    """Rewrites a tokenizer.json so that no added token swallows the spaces beside it (Phi's do).

    Engines know no such rule. What is stored is then trained and served alike; a template that writes a space there has
    it as a token.
    """
    content = json.loads(path.read_bytes())
    greedy = [token for token in content["added_tokens"] if token["lstrip"] or token["rstrip"]]
    for token in greedy:
        token["lstrip"] = token["rstrip"] = False
    if greedy:
        path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def pinned(template: str) -> str:
    """The template with each look at the clock replaced by what it says on PINNED_DATE.

    Raises InvalidRequest for a clock that is read in another way.
    """
    fixed = _CLOCK.sub(lambda found: f'"{PINNED_DATE.strftime(found[1] or found[2] or "")}"', template)
    if re.search(r"strftime_now\s*\(", fixed):
        raise InvalidRequest(
            "template_reads_clock", f"The chat template reads the clock in a way that cannot be pinned. {ADVICE}"
        )
    return fixed


def template_warnings(renderer: Renderer) -> list[str]:
    """Sentences about the template that its user should know; empty if there is nothing to say.

    Raises InvalidRequest where no chat can be learned by it.
    """
    try:
        return template_diagnostics.diagnose(renderer)
    except Unrenderable as error:
        raise InvalidRequest(error.code, f"No chat can be learned: {error.message} {ADVICE}") from error


def _turn_end(tokenizer: Any) -> int:
    """The id of the special token that the template writes behind an answer; else the tokenizer's own end.

    Raises InvalidRequest if there is neither, or if the template refuses a question and its answer.
    """
    messages = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
    try:
        template = sandbox.compile_template(tokenizer.chat_template, tokenizer.special_tokens_map)
        text = sandbox.render(template, messages, (), False)
    except jinja2.TemplateError as error:
        raise InvalidRequest(
            "template_refuses_messages", f"The chat template does not take a question and its answer: {error}. {ADVICE}"
        ) from error
    behind = tokenizer(text.rpartition(_ANSWER)[2], add_special_tokens=False)["input_ids"]
    special = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
    end = next((int(token) for token in behind if token in special), tokenizer.eos_token_id)
    if end is None:
        words = ", ".join(tokenizer.all_special_tokens) or "none"
        raise InvalidRequest(
            "template_without_end",
            "The chat template writes no special token of this tokenizer behind an answer, and the tokenizer has no "
            f"end of its own, so that the model could never learn to stop (special tokens: {words}). {ADVICE}",
        )
    return int(end)
