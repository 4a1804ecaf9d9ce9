"""What engine hosts have loaded, and what is wrong with them: asked at most once a second for each host."""

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

from luthier.core.engine_ports import EngineState
from luthier.core.errors import LuthierError
from luthier.core.inference import host_values
from luthier.core.inference.engine_hosts import GONE, EngineHost, HostClient, Operation
from luthier.service.models.hosting.host_directory import HostDirectory

logger = logging.getLogger(__name__)

FRESH_S = 1.0
TIMEOUT_S = 2.0
FAULTS_KEPT_S = 10.0
"""For so long what was found wrong with a host holds."""
NO_HOST_RUNS = "No engine host runs: start luthier engine-host."
NONE_ANSWERS = "No engine host answers: look at the logs of luthier engine-host."


@dataclass(frozen=True, slots=True)
class States:
    """What a host has of models, by canonical name, and its faults, as of `read_at` (monotonic seconds); `otherwise` is
    said of a model that it does not have.
    """

    models: Mapping[str, EngineState]
    faults: tuple[str, ...]
    read_at: float
    otherwise: str = "It is not loaded. The next call loads it."


@dataclass(slots=True)
class HostStates:
    """The states of all hosts. Safe from several threads."""

    directory: HostDirectory
    client: HostClient
    _known: dict[str, States] = field(default_factory=dict)
    _looking: threading.Lock = field(default_factory=threading.Lock)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "engine-hosts"))
    _refresh: "Future[None] | None" = None

    def of(self, host: EngineHost) -> States:
        """The host's states, read again after a second, in two seconds at most: none if it does not answer."""
        with self._looking:
            known = self._known.get(host.url)
            if known is not None and self.directory.elapsed_s() - known.read_at < FRESH_S:
                return known
            found = self._known[host.url] = self._ask(host)
            return found

    def faults(self) -> Sequence[str]:
        """That no host runs or answers, and what was wrong with each in the last seconds. Never waits: what is older is
        asked for anew, for the next caller.
        """
        if self._refresh is None or self._refresh.done():
            self._refresh = self._threads.submit(self._look_at_all)
        if not self.directory.known:
            return [NO_HOST_RUNS] if self.directory.has_looked else []
        if self.directory.are_all_avoided:
            return [NONE_ANSWERS]
        urls, oldest = {host.url for host in self.directory.known}, self.directory.elapsed_s() - FAULTS_KEPT_S
        known = [states for url, states in list(self._known.items()) if url in urls and states.read_at >= oldest]
        return [fault for states in known for fault in states.faults]

    def _ask(self, host: EngineHost) -> States:
        """Asks now. A host that is gone is no fault, since others take its place; one that refuses our key is."""
        try:
            answer = cast(dict[str, Any], self.client.ask_now(host.url, Operation.STATES, {}, TIMEOUT_S))
        except LuthierError as error:
            faults = () if error.code == GONE else (f"{host.url}: {error.message}",)
            return States({}, faults, self.directory.elapsed_s(), error.message)
        models = {name: host_values.read_state(one) for name, one in answer["models"].items()}
        return States(models, tuple(answer["faults"]), self.directory.elapsed_s())

    def _look_at_all(self) -> None:
        """Reads the states of every host that lives."""
        try:
            for host in self.directory.hosts():
                self.of(host)
        except LuthierError as error:  # the database does not answer
            logger.warning("engine hosts not looked at code=%s", error.code)
