"""Models on engine hosts: which host answers, and what is asked of it beside answers."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, cast

from luthier.core.engine_ports import Address, EngineState
from luthier.core.errors import LuthierError, Unavailable
from luthier.core.inference import host_values
from luthier.core.inference.engine_hosts import EngineHost, HostClient, HostGone, Operation
from luthier.core.models import Checkpoint
from luthier.core.states import EngineName, LoadState
from luthier.service.models.hosting.host_directory import HostDirectory
from luthier.service.models.hosting.host_states import HostStates
from luthier.service.models.models import Model
from luthier.service.models.proofs import Proof

logger = logging.getLogger(__name__)

HOSTS_ASKED = 3
"""So many hosts are asked for one thing at most."""
TELLING_S = 5.0
"""All hosts together have so long to be told of a model that goes; what lasts longer goes on without its caller."""
PROOFS_AT_ONCE = 4


@dataclass(slots=True)
class HostedServing:
    """Implements serving_port.ServedModels by hosts. Each host proves a model at its first load there."""

    directory: HostDirectory
    client: HostClient
    engine: EngineName
    """What is said to serve a model that no host has loaded yet."""
    states: HostStates = field(init=False)
    _addresses: dict[tuple[str, str], Address] = field(default_factory=dict)
    """By model and by start of a host."""
    _telling: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8, "hosts-told"))
    _proving: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(PROOFS_AT_ONCE, "engine-hosts-prove")
    )

    def __post_init__(self) -> None:
        self.states = HostStates(self.directory, self.client)

    async def address_when_loaded(self, model: Model, proven: bool = False) -> Address:
        """As the port says. A host is asked once; later calls load the model again by themselves, if they must."""
        for asked in range(1, HOSTS_ASKED + 1):
            if not self.directory.is_fresh:
                await asyncio.to_thread(self.directory.hosts)
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
        """As the port says; see `HostStates.faults`."""
        return self.states.faults()

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
        """As the port says; in a thread of its own kind, so that proofs hold up nothing else."""
        return await asyncio.wrap_future(self._proving.submit(self.prove, model, True))

    def state(self, model: Model) -> EngineState:
        """As the port says; of the host that would be asked now, as of the last second."""
        name = model.canonical_name
        try:
            states = self.states.of(self.directory.host_of(name))
        except Unavailable as error:  # no host lives
            return EngineState(self.engine, LoadState.RESTING, error.message)
        return states.models.get(name) or EngineState(self.engine, LoadState.RESTING, states.otherwise)

    def release(self, name: str) -> None:
        """As the port says, on all hosts: it may have been served elsewhere before."""
        self._tell_all(Operation.RELEASE, {"model": name})
        self._forget(name)

    def discard(self, checkpoint: Checkpoint) -> None:
        """As the port says, on all hosts. A host that cannot be reached removes its copy itself, within minutes."""
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
        """Tells every host, side by side; one that cannot be reached is no error."""
        told = [self._telling.submit(self._tell, host.url, operation, body) for host in self.directory.hosts()]
        wait(told, TELLING_S)

    def _tell(self, url: str, operation: Operation, body: Mapping[str, object]) -> None:
        try:
            self.client.ask_now(url, operation, body)
        except LuthierError as error:
            logger.warning("engine host not told url=%s operation=%s code=%s", url, operation, error.code)


def model_fields(model: Model) -> Mapping[str, object]:
    """How a model is named to a host: by its id at its owner, which any name of it leads to."""
    checkpoint = model.checkpoint
    if checkpoint is None:
        return {"owner": "", "model": model.canonical_name}
    return {"owner": checkpoint.resource_id, "model": checkpoint.id}


def _proof(found: object) -> Proof:
    value = cast(dict[str, Any], found)
    return Proof(host_values.read_report(value["report"]), tuple(map(host_values.read_report, value["beside"])))
