"""The token ids of a request's prompt, as an engine reads them: what `admission` counts and compares with caches."""

from collections.abc import Sequence
from typing import cast

from luthier.core.engine_ports import Address, Capacity, EngineClient, EngineRequest
from luthier.service.scheduling import context_budget


async def of_request(
    client: EngineClient, address: Address, request: EngineRequest, capacity: Capacity, prompt_field: str
) -> Sequence[int]:
    """The prompt's token ids: as given, else by the engine's own chat template and tokenizer, which it is asked for.

    Raises InvalidRequest, naming `prompt_field`, for too many given ids, and for a text that is too long in any
    vocabulary, before it is tokenized.
    """
    prompt = request.get("prompt")
    if "messages" not in request and not isinstance(prompt, str):
        token_ids = cast(Sequence[int], prompt)
        if len(token_ids) > context_budget.window(capacity):
            raise context_budget.too_long(capacity, len(token_ids), prompt_field)
        return list(token_ids)
    text = await client.render(address, request) if "messages" in request else cast(str, prompt)
    if context_budget.cannot_fit(capacity, len(text)):
        raise context_budget.too_long(capacity, None, prompt_field)
    return await client.tokenize(address, text)
