"""Chat completions: the request is checked and rendered, and each answer read on its way out."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from luthier.core.inference.generation import Usage
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.service.context import Context
from luthier.service.inference import grammar_check, served_prompts, vocabulary
from luthier.service.inference.answer_reader import AnswerReader
from luthier.service.inference.answers import AnswerPart, total_usage
from luthier.service.inference.generation_requests import ChatRequest
from luthier.service.inference.model_routing import Route
from luthier.service.scheduling.calls_port import AnswerCalls


async def stream(
    context: Context, calls: AnswerCalls, grammars: GrammarChecker, route: Route, request: ChatRequest
) -> AsyncGenerator[AnswerPart]:
    """The answers' deltas as they are generated, and last the usage.

    Raises InvalidRequest, Unsupported, RateLimited, Unavailable and UpstreamFailed.
    """
    request = await _prepared(context, grammars, route, request)
    answers = range(request.sampling.n)
    readers = [AnswerReader(request, index, context.new_hex) for index in answers]
    model = {"model": route.model.canonical_name}
    requests = [request.engine_request(index, route.address.renders_tools) | model for index in answers]
    usages: dict[int, Usage] = {}
    async with aclosing(calls.generate(route.engine_call("messages"), requests)) as outputs:
        async for index, output in outputs:
            if isinstance(output, Usage):
                usages[index] = output
                continue
            if deltas := readers[index].feed(output):
                yield deltas
    yield total_usage(usages)


async def count_tokens(
    context: Context, calls: AnswerCalls, grammars: GrammarChecker, route: Route, request: ChatRequest
) -> int:
    """The tokens of the prompt, as its engine would read it. Raises as `stream`, before anything is generated."""
    request = await _prepared(context, grammars, route, request)
    engine_request = request.engine_request(0, route.address.renders_tools)
    return len(await calls.prompt_tokens(route.engine_call("messages"), engine_request))


async def _prepared(context: Context, grammars: GrammarChecker, route: Route, request: ChatRequest) -> ChatRequest:
    """The request with its constraint, and with its prompt in tokens if an engine would misread the text.

    Raises InvalidRequest, Unsupported and Unavailable, before the engine is called.
    """
    vocabulary.check_biases(context, route.model, request.sampling.fields)
    renders_tools = route.address.renders_tools
    request = await served_prompts.with_prompt_ids(context, route.model, request, route.address)
    return await grammar_check.add_constraint(grammars, route.resource_id, request, renders_tools)
