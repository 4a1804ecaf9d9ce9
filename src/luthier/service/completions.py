"""Legacy completions: text that goes on from a prompt, by the same route and so the same adapter as chat."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from luthier.core.ports import Address
from luthier.service import engine_calls
from luthier.service.chat import Route, envelope
from luthier.service.chat_answers import entry_of, usage_of
from luthier.service.context import Context
from luthier.service.questions import CompletionQuestion, Json

_PATH = "/completions"
_KIND = "text_completion"


async def complete(context: Context, route: Route, question: CompletionQuestion) -> dict[str, Any]:
    """The whole text_completion: `n` choices to each prompt, in the order of prompts. Raises as `chat.complete`."""
    answers = await engine_calls.ask(route.address, _PATH, _bodies(route, question))
    beginnings = await _beginnings(route.address, question)
    choices: list[dict[str, Any]] = []
    for place, beginning in enumerate(beginnings):
        said = [answer["choices"][0] for answer in answers[place * question.best_of :][: question.best_of]]
        if question.best_of > question.sampling.n:
            said.sort(key=_mean_logprob, reverse=True)
        for one in said[: question.sampling.n]:
            entries = one["logprobs"]["content"] if question.logprobs is not None and one.get("logprobs") else None
            choices.append(
                {
                    "index": len(choices),
                    "text": beginning + one["text"],
                    "logprobs": _logprobs(question, entries, len(beginning)),
                    "finish_reason": one["finish_reason"],
                }
            )
    usage = usage_of([answer["usage"] for answer in answers], len(question.prompts))
    return {**envelope(context, route, "cmpl", _KIND), "choices": choices, "usage": usage}


async def stream(context: Context, route: Route, question: CompletionQuestion) -> AsyncIterator[dict[str, Any]]:
    """The text_completion objects in pieces, the last one with the usage and no choices; `best_of` is `n` here."""
    shared = envelope(context, route, "cmpl", _KIND)
    beginnings = await _beginnings(route.address, question)
    usages: dict[int, dict[str, Any]] = {}
    lengths: dict[int, int] = {}
    async for place, piece in engine_calls.ask_in_pieces(route.address, _PATH, _bodies(route, question)):
        if piece.get("usage"):
            usages[place] = piece["usage"]
        for said in piece.get("choices") or ():
            text = said["text"]
            offset = lengths.get(place)
            if offset is None:
                beginning = beginnings[place // question.best_of]
                text, offset = beginning + text, len(beginning)
            entries = said["logprobs"]["content"] if question.logprobs is not None and said.get("logprobs") else None
            lengths[place] = offset + len(said["text"])
            choice = {
                "index": place,
                "text": text,
                "logprobs": _logprobs(question, entries, offset),
                "finish_reason": said.get("finish_reason"),
            }
            yield {**shared, "choices": [choice]}
    usage = usage_of([usages[place] for place in sorted(usages)], len(question.prompts))
    yield {**shared, "choices": [], "usage": usage}


def _bodies(route: Route, question: CompletionQuestion) -> list[dict[str, Any]]:
    return [body | {"model": route.model.canonical_name} for body in question.candidates()]


async def _beginnings(address: Address, question: CompletionQuestion) -> list[str]:
    """What each choice begins with: the prompt where it is to be repeated."""
    if not question.echo:
        return [""] * len(question.prompts)
    return [
        prompt if isinstance(prompt, str) else await engine_calls.text_of_tokens(address, prompt)
        for prompt in question.prompts
    ]


def _mean_logprob(choice: Json) -> float:
    """What `best_of` chooses by: the log-probability a token (OpenAI API reference)."""
    entries = (choice.get("logprobs") or {}).get("content") or ()
    total: float = sum(entry_of(entry, 0)["logprob"] for entry in entries)
    return total / max(1, len(entries))


def _logprobs(question: CompletionQuestion, entries: Sequence[Json] | None, offset: int) -> dict[str, Any] | None:
    """The legacy shape: lists side by side; offsets count characters of the choice's text."""
    if question.logprobs is None or entries is None:
        return None
    shape: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for entry in entries:
        cleaned = entry_of(entry, question.logprobs)
        shape["tokens"].append(cleaned["token"])
        shape["token_logprobs"].append(cleaned["logprob"])
        shape["top_logprobs"].append({top["token"]: top["logprob"] for top in cleaned["top_logprobs"]})
        shape["text_offset"].append(offset)
        offset += len(entry["token"])
    return shape
