"""Prompts of chats in tokens, rendered as in training: for engines that take nothing else, and where text is unsafe.

An engine that renders chats itself would parse a control token's spelling in a message as that
token, which lets a message forge turns (prompt injection); in a prompt of token ids the spelling stays text.
"""

import asyncio
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from luthier.core.engine_ports import Address
from luthier.core.errors import InvalidRequest
from luthier.data.rendering.renderer import Renderer, Unrenderable
from luthier.data.tools.call_form import OURS
from luthier.model_folder import BaseModelFolder
from luthier.service.context import Context
from luthier.service.inference.generation_requests import ChatRequest
from luthier.service.models.models import Model
from luthier.service.scheduling import context_budget
from luthier.tokenization import base_tokenizers

_CACHED_RENDERERS = 4


async def with_prompt_ids(context: Context, model: Model, request: ChatRequest, address: Address) -> ChatRequest:
    """The request, with its prompt in tokens if the engine needs it so, or would parse a control token out of its text.

    Raises InvalidRequest for messages that the model's template refuses, for a text that is too long in any vocabulary
    before it is tokenized, and if the engine itself must render the
    prompt to parse the answer: a template whose format of calls is not ours.
    """
    return await asyncio.to_thread(render_prompt, context.base_folder(model.base.name), request, address)


def render_prompt(base_folder: Path, request: ChatRequest, address: Address) -> ChatRequest:
    """`with_prompt_ids` by the tokenizer of that base model; it computes, so it runs in a thread.

    The request as it is if the tokenizer is not on this machine or the engine reads the text rightly.
    """
    renderer = _renderer(base_folder) if BaseModelFolder(base_folder).hf.tokenizer.exists() else None
    if renderer is None:
        return request
    renders_tools = renderer.renders_tools if address.takes_tokens else address.renders_tools
    is_native = request.is_native(renders_tools)
    tools = request.shown_tools(is_native)
    if not address.takes_tokens and not renderer.need_marks(request.messages, tools):
        return request
    if is_native and request.tool_use.can_call and renderer.call_form is None:
        raise InvalidRequest(
            "control_token_in_text",
            "the messages or tools spell a control token of this model, which can be no text beside tools that it may "
            "call: leave out the tools, or the control token.",
            "messages",
        )
    try:
        text = renderer.text_of_turns(request.messages, tools, True, folds_tools=not is_native)
    except Unrenderable as error:
        raise InvalidRequest(error.code, f"{error.message} {error.fix}", "messages") from None
    capacity = address.capacity
    if capacity is not None and context_budget.cannot_fit(capacity, len(text)):
        raise context_budget.too_long(capacity, None, "messages")
    form = renderer.call_form if is_native and renderer.call_form is not None else OURS
    return replace(request, prompt_ids=tuple(renderer.token_ids(text)), call_form=form)


@lru_cache(_CACHED_RENDERERS)
def _renderer(base_folder: Path) -> Renderer | None:
    """The renderer of a base model, from a cache of the latest; None if there is no tokenizer."""
    tokenizer = base_tokenizers.load_tokenizer(base_folder)
    return None if tokenizer is None else Renderer(tokenizer, 1)
