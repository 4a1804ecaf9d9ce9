"""Chat completions: which model a call means, where it answers, and the call itself."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from luthier import __version__
from luthier.core.errors import NoSpace
from luthier.core.models import Deployment
from luthier.core.ports import Address
from luthier.core.states import DeploymentState
from luthier.service import deployments, engine_calls, models
from luthier.service.chat_answers import ChoiceReader, Delta, Entries, message_of, usage_of
from luthier.service.context import Context
from luthier.service.models import Model
from luthier.service.questions import ChatQuestion
from luthier.service.serving import Serving
from luthier.store import deployments as deployment_rows

_PATH = "/chat/completions"
USE_IS_NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Route:
    """The model that a call is for, where it answers, and the deployment that was called, if one was."""

    model: Model
    address: Address
    deployment: Deployment | None = None

    def fingerprint(self) -> str:
        """Names the weights and the software that answer: another one means that a seed may give another answer."""
        made_of = f"{__version__} {self.model.base.name} {self.model.canonical_name}"
        return f"fp_{hashlib.sha256(made_of.encode()).hexdigest()[:10]}"


def route(context: Context, serving: Serving, resource_id: str, name: str, models_too: bool) -> Route:
    """Finds the deployment of that name, or with `models_too` the model, and has it ready to answer.

    Blocks while a model is loaded. Raises NotFound for an unknown name or a deployment that has not succeeded.
    """
    with context.database.reading() as tx:
        deployment = deployment_rows.get(tx, resource_id, name)
        proven = deployment is not None and deployment.state is DeploymentState.SUCCEEDED
        if deployment is not None and proven:
            model = models.resolve(context, tx, resource_id, deployment.model)
        elif models_too:
            model = models.resolve(context, tx, resource_id, name)
        else:
            model = None
    if model is None:
        raise models.not_found(name, "model") if models_too else deployments.not_found(name)
    if deployment is not None and proven:
        _note_use(context, deployment)
    return Route(model, serving.address(model, proven), deployment if proven else None)


def _note_use(context: Context, deployment: Deployment) -> None:
    """Writes the time of a call, once a minute at most: what is not called for long is deleted."""
    now = context.now()
    unless_since = now - USE_IS_NOTED_EVERY
    if deployment.last_used_at <= unless_since:
        # A full disk is no reason not to answer: the next call notes its own time.
        with suppress(NoSpace), context.database.writing() as tx:
            deployment_rows.set_used(tx, deployment.resource_id, deployment.name, now, unless_since)


async def complete(context: Context, route: Route, question: ChatQuestion) -> dict[str, Any]:
    """The whole chat.completion. Raises InvalidRequest, Unsupported, Unavailable and UpstreamFailed."""
    answers = await engine_calls.ask(route.address, _PATH, _bodies(route, question))
    choices = []
    for place, answer in enumerate(answers):
        (said,) = answer["choices"]
        reader = ChoiceReader(question, context.new_hex)
        deltas = list(reader.feed(said["message"], said.get("logprobs")))
        rest, reason = reader.finish(said["finish_reason"])
        message, entries = message_of(deltas + rest)
        choices.append({"index": place, "message": message, "logprobs": logprobs(entries), "finish_reason": reason})
    usage = usage_of([answer["usage"] for answer in answers])
    return {**envelope(context, route, "chatcmpl", "chat.completion"), "choices": choices, "usage": usage}


async def stream(context: Context, route: Route, question: ChatQuestion) -> AsyncIterator[dict[str, Any]]:
    """The chat.completion.chunk objects, the last one with the usage and no choices.

    Raises as `complete` does, before the first piece where the engine refuses. When the caller stops reading, the
    engine is told.
    """
    shared = envelope(context, route, "chatcmpl", "chat.completion.chunk")
    readers = [ChoiceReader(question, context.new_hex) for _ in range(question.sampling.n)]
    begun: set[int] = set()
    usages: list[dict[str, Any]] = []
    async for place, piece in engine_calls.ask_in_pieces(route.address, _PATH, _bodies(route, question)):
        if piece.get("usage"):
            usages.append(piece["usage"])
        for said in piece.get("choices") or ():
            deltas = list(readers[place].feed(said["delta"], said.get("logprobs")))
            reason = said.get("finish_reason")
            if reason:
                rest, reason = readers[place].finish(reason)
                deltas += rest
            if place not in begun and (deltas or reason):
                begun.add(place)
                yield {**shared, "choices": [_chunk(place, Delta({"role": "assistant", "content": ""}))]}
            for delta in deltas:
                yield {**shared, "choices": [_chunk(place, delta)]}
            if reason:
                yield {**shared, "choices": [_chunk(place, Delta({}), reason)]}
    yield {**shared, "choices": [], "usage": usage_of(usages)}


def envelope(context: Context, route: Route, prefix: str, kind: str) -> dict[str, Any]:
    """What stands around the choices of every answer; `model` is the name of the weights that gave it."""
    return {
        "id": f"{prefix}-{context.new_hex()}",
        "object": kind,
        "created": int(context.now().timestamp()),
        "model": route.model.canonical_name,
        "system_fingerprint": route.fingerprint(),
    }


def logprobs(entries: Entries | None) -> dict[str, Any] | None:
    return None if entries is None else {"content": entries, "refusal": None}


def _bodies(route: Route, question: ChatQuestion) -> list[dict[str, Any]]:
    name = {"model": route.model.canonical_name}
    return [question.for_engine(place, route.address.renders_tools) | name for place in range(question.sampling.n)]


def _chunk(place: int, delta: Delta, reason: str | None = None) -> dict[str, Any]:
    return {"index": place, "delta": delta.fields, "logprobs": logprobs(delta.entries), "finish_reason": reason}
