"""Which engine hosts live, and which of them serves a model: the same one for all processes while the hosts stay.

A model belongs to the host with the highest score of rendezvous hashing (Thaler and Ravishankar, 1998; weighted as by
Schindelhauer and Schomaker, 2005): when a host comes or goes, only its own share of the models moves.
"""

import hashlib
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from luthier.core.errors import Unavailable
from luthier.core.inference.engine_hosts import NO_HOST, EngineHost
from luthier.store.db import Database
from luthier.store.queries.leasing import engine_hosts

FRESH_S = 1.0
"""The list of hosts is read again after so long."""
AVOIDED_S = 5.0
"""A host that could not be reached is not asked for so long, unless no other one lives."""
_RETRY_S = 5.0


@dataclass(slots=True)
class HostDirectory:
    """The hosts, as the database has them. Safe from several threads."""

    database: Database
    elapsed_s: Callable[[], float]
    """A monotonic clock."""
    _hosts: tuple[EngineHost, ...] = ()
    _read_at: float = -math.inf
    _avoided: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_fresh(self) -> bool:
        """Whether `hosts` answers without the database."""
        return self.elapsed_s() - self._read_at < FRESH_S

    @property
    def has_looked(self) -> bool:
        """Whether the hosts were read at all."""
        return self._read_at > -math.inf

    @property
    def are_all_avoided(self) -> bool:
        """Whether none of the known hosts could be reached lately."""
        now = self.elapsed_s()
        return bool(self._hosts) and all(self._avoided.get(host.url, -math.inf) > now for host in self._hosts)

    @property
    def known(self) -> Sequence[EngineHost]:
        """The hosts of the last look."""
        return self._hosts

    def hosts(self) -> Sequence[EngineHost]:
        """The hosts that live; from the database if the last look is too old."""
        with self._lock:
            if not self.is_fresh:
                with self.database.reading() as tx:
                    self._hosts = tuple(engine_hosts.list_living(tx))
                self._read_at = self.elapsed_s()
            return self._hosts

    def host_of(self, model: str) -> EngineHost:
        """The host that serves a model, by its canonical name. Raises Unavailable if no host lives."""
        hosts = self.hosts()
        if not hosts:
            text = "No engine host runs. Start one: luthier engine-host"
            raise Unavailable(NO_HOST, text, retry_after_s=_RETRY_S)
        now = self.elapsed_s()
        reached = [host for host in hosts if self._avoided.get(host.url, -math.inf) <= now]
        return max(reached or hosts, key=lambda host: (score(host, model), host.url))

    def note_gone(self, url: str) -> None:
        """Has other hosts be asked for a while."""
        self._avoided[url] = self.elapsed_s() + AVOIDED_S


def score(host: EngineHost, model: str) -> float:
    """The host's claim to a model, from 0 up; the highest one has it, each host's share is as its weight."""
    digest = hashlib.sha256(f"{host.url}\n{model}".encode()).digest()
    uniform = (int.from_bytes(digest[:8], "big") + 1) / (2**64 + 1)
    return -host.weight / math.log(uniform)
