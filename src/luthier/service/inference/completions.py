"""Legacy completions: texts that continue a prompt, by the same route and so with the same adapter as chats."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from luthier.core.inference.generation import FinishReason, Usage
from luthier.service.context import Context
from luthier.service.inference import answers, vocabulary
from luthier.service.inference.answers import NO_ECHO, Answer, AnswerPart, Choice, ChoiceDelta, PromptEcho, total_usage
from luthier.service.inference.generation_requests import CompletionRequest
from luthier.service.inference.model_routing import Route
from luthier.service.scheduling.calls_port import AnswerCalls
from luthier.service.scheduling.engine_calls import EngineCall


async def complete(context: Context, calls: AnswerCalls, route: Route, request: CompletionRequest) -> Answer:
    """The `sampling.n` best choices of each prompt, in the order of prompts. Raises as `chat.stream`."""
    _check(context, route, request)
    if not request.max_tokens:
        return await answers.collect(_echoes_only(calls, route, request))
    no_echoes = [NO_ECHO] * len(request.prompts)
    async with aclosing(_generated(calls, route, request, no_echoes)) as outputs:
        answer = await answers.collect(outputs)
    choices: list[Choice] = []
    for index, echo in enumerate(await _echoes(calls, route, request)):
        candidates = list(answer.choices[index * request.best_of :][: request.best_of])
        if request.best_of > request.sampling.n:
            candidates.sort(key=_mean_log_prob, reverse=True)
        choices += [replace(choice, echo=echo) for choice in candidates[: request.sampling.n]]
    return Answer(choices, answer.usage)


async def stream(
    context: Context, calls: AnswerCalls, route: Route, request: CompletionRequest
) -> AsyncGenerator[AnswerPart]:
    """The choices' deltas as they are generated, and last the usage; `best_of` is `n` here. Raises as `chat.stream`."""
    _check(context, route, request)
    if request.max_tokens:
        outputs = _generated(calls, route, request, await _echoes(calls, route, request))
    else:
        outputs = _echoes_only(calls, route, request)
    async with aclosing(outputs):
        async for part in outputs:
            yield part


async def _generated(
    calls: AnswerCalls, route: Route, request: CompletionRequest, echoes: Sequence[PromptEcho]
) -> AsyncGenerator[AnswerPart]:
    """The deltas of all choices, the echo of its prompt with the first one of each; last the usage."""
    model = {"model": route.model.canonical_name}
    requests = [{**fields, **model} for fields in request.engine_requests()]
    usages: dict[int, Usage] = {}
    begun: set[int] = set()
    async with aclosing(calls.generate(route.engine_call("prompt"), requests)) as outputs:
        async for index, output in outputs:
            if isinstance(output, Usage):
                usages[index] = output
                continue
            echo = NO_ECHO if index in begun else echoes[index // request.best_of]
            begun.add(index)
            log_probs, reason = output.log_probs, output.finish_reason
            yield [ChoiceDelta(index, output.text, log_probs=log_probs, finish_reason=reason, echo=echo)]
    yield total_usage(usages, len(request.prompts))


async def _echoes_only(calls: AnswerCalls, route: Route, request: CompletionRequest) -> AsyncGenerator[AnswerPart]:
    """The prompts themselves as choices: with `max_tokens` 0 nothing is generated."""
    echoes = await _echoes(calls, route, request)
    n = request.sampling.n
    yield [
        ChoiceDelta(index, "", finish_reason=FinishReason.LENGTH, echo=echoes[index // n])
        for index in range(len(echoes) * n)
    ]
    yield Usage(sum(echo.n_tokens for echo in echoes), 0)


def _check(context: Context, route: Route, request: CompletionRequest) -> None:
    """Raises InvalidRequest for token ids in prompts or logit_bias that the model's vocabulary does not have."""
    vocabulary.check_prompts(context, route.model, request.prompts)
    vocabulary.check_biases(context, route.model, request.sampling.fields)


async def _echoes(calls: AnswerCalls, route: Route, request: CompletionRequest) -> list[PromptEcho]:
    """For each prompt what its choices begin with: the prompt, if it is to be echoed, else NO_ECHO."""
    if not request.echo:
        return [NO_ECHO] * len(request.prompts)
    call = route.engine_call("prompt")
    return [await _echo(calls, call, request, prompt) for prompt in request.prompts]


async def _echo(
    calls: AnswerCalls, call: EngineCall, request: CompletionRequest, prompt: str | Sequence[int]
) -> PromptEcho:
    """The echo of a prompt; asks the engine for text, tokens and log-probabilities, as far as they are needed."""
    text = prompt if isinstance(prompt, str) else await calls.detokenize(call, prompt)
    if request.log_probs is None and request.max_tokens:
        return PromptEcho(text)
    token_ids = await calls.tokenize(call, prompt)
    if request.log_probs is None or not token_ids:
        return PromptEcho(text, len(token_ids))
    *log_probs, next_token = await calls.prompt_log_probs(call, token_ids, max(1, request.log_probs))
    return PromptEcho(text, len(token_ids), log_probs, next_token)


def _mean_log_prob(choice: Choice) -> float:
    """What `best_of` chooses by: the mean log-probability of the tokens (OpenAI API reference); 0 for no token."""
    log_probs = [token.log_prob for token in choice.log_probs or ()]
    return sum(log_probs) / max(1, len(log_probs))
