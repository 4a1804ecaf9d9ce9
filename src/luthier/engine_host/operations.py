"""What a host does for its callers: each operation of the port as a generator of the values that it answers."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from luthier.core.engine_ports import Address
from luthier.core.errors import NotFound
from luthier.core.inference import host_values
from luthier.core.inference.engine_hosts import Operation
from luthier.service.context import Context
from luthier.service.models import models
from luthier.service.models import serving as serving_module
from luthier.service.models.hosting.hosted_serving import model_fields
from luthier.service.models.models import Model
from luthier.service.models.serving import Serving
from luthier.service.scheduling.admission import QueueKey
from luthier.service.scheduling.embedding_calls import EmbeddingCall
from luthier.service.scheduling.engine_calls import EngineCall, EngineCalls

T = TypeVar("T")

THREADS = 4
"""Proofs, and models that go, at a time."""

Body = Mapping[str, Any]
Values = AsyncGenerator[object]


@dataclass(slots=True)
class HostOperations:
    """The operations of one host, on its engines and its queues. Lives on one event loop."""

    context: Context
    serving: Serving
    calls: EngineCalls
    _served: dict[str, Model] = field(default_factory=dict)
    """The models that were asked for since the start, by canonical name."""
    _waiting: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS, "host-waits"))
    """Threads that wait for models that load: calls of other models need not wait for these threads."""

    def answer(self, operation: Operation, body: Body) -> Values:
        """The values of an answer. Raises, as they are asked for, LuthierError of any kind that `host_values` knows."""
        found: Mapping[Operation, Callable[[Body], Values]] = {
            Operation.LOAD: self._load,
            Operation.GENERATE: self._generate,
            Operation.TOKENIZE: self._tokenize,
            Operation.PROMPT_TOKENS: self._prompt_tokens,
            Operation.DETOKENIZE: self._detokenize,
            Operation.PROMPT_LOG_PROBS: self._prompt_log_probs,
            Operation.EMBED: self._embed,
            Operation.PROVE: self._prove,
            Operation.STATES: self._states,
            Operation.RELEASE: self._release,
            Operation.DISCARD: self._discard,
        }
        return found[operation](body)

    async def _load(self, body: Body) -> Values:
        """The address, once the model is loaded and proven here."""
        _, address = await self._loaded(body)
        yield host_values.address(address)

    async def _generate(self, body: Body) -> Values:
        """Parts of answers, each with its request's index."""
        outputs = self.calls.generate(await self._call(body), body["requests"])
        async with aclosing(outputs):
            async for index, output in outputs:
                yield [index, host_values.output(output)]

    async def _tokenize(self, body: Body) -> Values:
        yield list(await self.calls.tokenize(await self._call(body), body["prompt"]))

    async def _prompt_tokens(self, body: Body) -> Values:
        yield list(await self.calls.prompt_tokens(await self._call(body), body["request"]))

    async def _detokenize(self, body: Body) -> Values:
        yield await self.calls.detokenize(await self._call(body), body["tokens"])

    async def _prompt_log_probs(self, body: Body) -> Values:
        found = await self.calls.prompt_log_probs(await self._call(body), body["tokens"], body["top"])
        yield host_values.log_probs(found)

    async def _embed(self, body: Body) -> Values:
        call = await self._call(body)
        of_texts = EmbeddingCall(call.address, call.current_address, call.queue_key, call.model)
        yield host_values.vectors(await self.calls.embeddings.embed(of_texts, body["inputs"]))

    async def _prove(self, body: Body) -> Values:
        """Reports of a check that is made now."""
        model = await self._model(body)
        proof = await self._in_turn(partial(self.serving.prove, model, body["beside_all"]))
        self._served[model.canonical_name] = model
        yield {"report": host_values.report(proof.report), "beside": list(map(host_values.report, proof.beside))}

    async def _states(self, body: Body) -> Values:
        """What is loaded of the models that were asked for, and the faults of all engines."""
        models = await asyncio.to_thread(
            lambda: {name: host_values.state(self.serving.state(model)) for name, model in list(self._served.items())}
        )
        yield {"models": models, "faults": list(self.serving.faults())}

    async def _release(self, body: Body) -> Values:
        self._served.pop(body["model"], None)
        await self._in_turn(partial(self.serving.release, body["model"]))
        yield True

    async def _discard(self, body: Body) -> Values:
        """Unloads a model that was deleted, with its copied files."""
        self._served.pop(body["model"], None)
        await self._in_turn(partial(self.serving.remove, body["model"], body["copied_from"] or body["checkpoint"]))
        yield True

    def forget_gone(self) -> None:
        """Unloads models that were deleted while this host could not be told, and removes their local files. Blocks."""
        for name, model in list(self._served.items()):
            try:
                named = model_fields(model)
                models.get(self.context, str(named["owner"]), str(named["model"]))
            except NotFound:
                self._served.pop(name, None)
                self.serving.release(name)
        serving_module.remove_gone(self.context)

    async def _in_turn(self, call: Callable[[], T]) -> T:
        """The result of a call that may wait long, in a thread of those for that."""
        return await asyncio.wrap_future(self._waiting.submit(call))

    async def _call(self, body: Body) -> EngineCall:
        """The call of the engine that a caller wants, in this host's queue."""
        model, address = await self._loaded(body)
        caller = body["caller"]
        key = QueueKey(caller["resource"], caller["target"], caller["is_background"])
        current_address = partial(self.serving.address_when_loaded, model)
        return EngineCall(address, current_address, key, model.canonical_name, body["prompt_field"])

    async def _loaded(self, body: Body) -> tuple[Model, Address]:
        """The model and where it answers; it is loaded and proven here if need be."""
        model = await self._model(body)
        address = await self.serving.address_when_loaded(model)
        self._served[model.canonical_name] = model
        return model, address

    async def _model(self, body: Body) -> Model:
        """The model that a caller names. Raises NotFound."""
        return await asyncio.to_thread(models.get, self.context, body["owner"], body["model"])
