"""Models on engine hosts: which host answers, and what is asked of it beside answers."""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

from luthier.core.engine_ports import Address, EngineState
from luthier.core.errors import LuthierError, Unavailable
from luthier.core.inference import host_values
from luthier.core.inference.engine_hosts import EngineHost, HostClient, HostGone, Operation
from luthier.core.models import Checkpoint
from luthier.core.states import EngineName, LoadState
from luthier.service.models.hosting.host_directory import HostDirectory
from luthier.service.models.models import Model
from luthier.service.models.proofs import Proof

logger = logging.getLogger(__name__)

HOSTS_ASKED = 3
"""So many hosts are asked for one thing at most."""
STATES_FRESH_S = 1.0
STATES_TIMEOUT_S = 2.0
RELEASE_TIMEOUT_S = 10.0
FAULTS_KEPT_S = 10.0
"""For so long what a host has told of faults holds."""


@dataclass(frozen=True, slots=True)
class _States:
    """What a host has of models, by canonical name, and its faults, as of `read_at` (monotonic seconds); `otherwise` is
    said of a model that it does not have.
    """

    models: Mapping[str, EngineState]
    faults: tuple[str, ...]
    read_at: float
    otherwise: str = "It is not loaded. The next call loads it."


@dataclass(slots=True)
class HostedServing:
    """Implements serving_port.ServedModels by hosts. Each host proves a model at its first load there."""

    directory: HostDirectory
    client: HostClient
    engine: EngineName
    """What is said to serve a model that no host has loaded yet."""
    _addresses: dict[tuple[str, str], Address] = field(default_factory=dict)
    """By model and by start of a host."""
    _states: dict[str, _States] = field(default_factory=dict)
    _looking: threading.Lock = field(default_factory=threading.Lock)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "engine-hosts"))
    _refresh: "Future[None] | None" = None

    async def address_when_loaded(self, model: Model, proven: bool = False) -> Address:
        """As the port says. A host is asked once; later calls load the model again by themselves, if they must."""
        if not self.directory.is_fresh:
            await asyncio.to_thread(self.directory.hosts)
        for asked in range(1, HOSTS_ASKED + 1):
            host = self.directory.host_of(model.canonical_name)
            known = self._addresses.get((model.canonical_name, host.process))
            if known is not None:
                return known
            try:
                found = await self.client.ask(host.url, Operation.LOAD, model_fields(model))
            except HostGone:
                self.directory.note_gone(host.url)
                if asked == HOSTS_ASKED:
                    raise
                continue
            return self._remember(model, host, found)
        raise HostGone

    def faults(self) -> Sequence[str]:
        """That no host runs, and the faults that hosts have told of in the last seconds; never waits: what is older is
        asked for anew, for the next caller.
        """
        if self._refresh is None or self._refresh.done():
            self._refresh = self._threads.submit(self._look_at_all)
        if not self.directory.known:
            return ["No engine host runs: start luthier engine-host."] if self.directory.has_looked else []
        urls, oldest = {host.url for host in self.directory.known}, self.directory.elapsed_s() - FAULTS_KEPT_S
        known = [states for url, states in list(self._states.items()) if url in urls and states.read_at >= oldest]
        return [fault for states in known for fault in states.faults]

    def prove(self, model: Model, beside_all: bool = False) -> Proof:
        """As the port says, on the host that will answer."""
        body = {**model_fields(model), "beside_all": beside_all}
        for asked in range(1, HOSTS_ASKED + 1):
            host = self.directory.host_of(model.canonical_name)
            try:
                return _proof(self.client.ask_now(host.url, Operation.PROVE, body))
            except HostGone:
                self.directory.note_gone(host.url)
                if asked == HOSTS_ASKED:
                    raise
        raise HostGone

    async def prove_beside_all(self, model: Model) -> Proof:
        """As the port says; in a thread."""
        return await asyncio.to_thread(self.prove, model, True)

    def state(self, model: Model) -> EngineState:
        """As the port says; of the host that would be asked now, as of the last second."""
        name = model.canonical_name
        try:
            states = self._states_of(self.directory.host_of(name))
        except Unavailable as error:  # no host lives
            return EngineState(self.engine, LoadState.RESTING, error.message)
        return states.models.get(name) or EngineState(self.engine, LoadState.RESTING, states.otherwise)

    def release(self, name: str) -> None:
        """As the port says, on all hosts: it may have been served elsewhere before."""
        self._tell_all(Operation.RELEASE, {"model": name})
        self._forget(name)

    def discard(self, checkpoint: Checkpoint) -> None:
        """As the port says, on all hosts. What a host that cannot be reached keeps, its next start removes."""
        body = {"model": checkpoint.model, "checkpoint": checkpoint.id, "copied_from": checkpoint.copied_from}
        self._tell_all(Operation.DISCARD, body)
        self._forget(checkpoint.model)

    def _remember(self, model: Model, host: EngineHost, found: object) -> Address:
        """Keeps an address, and those of hosts that still live."""
        address = host_values.read_address(cast(host_values.Json, found), host.url, model_fields(model))
        living = {one.process for one in self.directory.known}
        kept = {key: one for key, one in self._addresses.items() if key[1] in living}
        self._addresses = kept | {(model.canonical_name, host.process): address}
        return address

    def _forget(self, name: str) -> None:
        self._addresses = {key: one for key, one in self._addresses.items() if key[0] != name}

    def _tell_all(self, operation: Operation, body: Mapping[str, object]) -> None:
        """Tells every host; one that cannot be reached is no error."""
        for host in self.directory.hosts():
            try:
                self.client.ask_now(host.url, operation, body, RELEASE_TIMEOUT_S)
            except LuthierError as error:
                logger.warning("engine host not told operation=%s code=%s", operation, error.code)

    def _states_of(self, host: EngineHost) -> _States:
        """The host's states, read again after a second: none if it does not answer."""
        with self._looking:
            known = self._states.get(host.url)
            if known is not None and self.directory.elapsed_s() - known.read_at < STATES_FRESH_S:
                return known
            try:
                answer = cast(dict[str, Any], self.client.ask_now(host.url, Operation.STATES, {}, STATES_TIMEOUT_S))
            except LuthierError as error:
                found = _States({}, (), self.directory.elapsed_s(), error.message)
            else:
                models = {name: host_values.read_state(one) for name, one in answer["models"].items()}
                found = _States(models, tuple(answer["faults"]), self.directory.elapsed_s())
            self._states[host.url] = found
            return found

    def _look_at_all(self) -> None:
        """Reads the states of every host that lives."""
        try:
            for host in self.directory.hosts():
                self._states_of(host)
        except LuthierError as error:  # the database does not answer
            logger.warning("engine hosts not looked at code=%s", error.code)


def model_fields(model: Model) -> Mapping[str, object]:
    """How a model is named to a host: by its id at its owner, which any name of it leads to."""
    checkpoint = model.checkpoint
    if checkpoint is None:
        return {"owner": "", "model": model.canonical_name}
    return {"owner": checkpoint.resource_id, "model": checkpoint.id}


def _proof(found: object) -> Proof:
    value = cast(dict[str, Any], found)
    return Proof(host_values.read_report(value["report"]), tuple(map(host_values.read_report, value["beside"])))
