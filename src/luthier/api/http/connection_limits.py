"""Limits on open connections: in all and per address, and on how long one may wait."""

import asyncio
import ipaddress
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

MAX_PENDING_REFUSALS = 64
"""So many rejected connections get an answer at a time, which keeps them open for a moment. The others get none."""
SWEEP_S = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers of connections, and times in seconds. `docs/operating.md` has each as a setting."""

    connections: int = 4096
    per_address: int = 1024
    """0 for none: behind a reverse proxy every connection comes from one address."""
    head_s: float = 10.0
    """From the opening of a connection, or the first byte of a further request, to the end of its headers."""
    idle_s: float = 5.0
    """Between an answer and the next request."""
    write_s: float = 60.0
    """How long a peer may read nothing of its answer."""
    linger_s: float = 2.0
    """How long a peer that was answered in the middle of its body has to read the answer."""


class LimitedConnection(Protocol):
    """What the gate needs of a connection: `connections.Connection`, and `tls.Handshake` before it."""

    @property
    def is_waiting(self) -> bool:
        """Whether it serves no request now, so that a later connection may replace it."""
        ...

    def close_if_overdue(self, now: float) -> None:
        """Closes the connection if its peer has kept it waiting for longer than the limits allow."""

    def abort(self) -> None:
        """Closes the connection at once, with what was not sent yet lost."""
        ...


class ConnectionGate:
    """The open connections of one server, counted by address. Belongs to one event loop and starts a sweep on it."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._network_by_connection: dict[LimitedConnection, str] = {}
        self._refused: set[LimitedConnection] = set()
        self._by_address: Counter[str] = Counter()
        self._is_sweeping = False

    def enter(self, connection: LimitedConnection, address: str) -> bool:
        """Whether the connection is admitted; then it counts until `leave`. At a limit it replaces one that waits.

        A rejected connection's answer is the caller's to send; it is aborted at once if too many others still wait for
        theirs.
        """
        self._sweep_soon()
        network = network_of(address)
        limit = self.limits.per_address
        if limit and self._by_address[network] >= limit and not self._make_room(network):
            return self._refuse(connection)
        if len(self._network_by_connection) >= self.limits.connections and not self._make_room(None):
            return self._refuse(connection)
        self._network_by_connection[connection] = network
        self._by_address[network] += 1
        return True

    def leave(self, connection: LimitedConnection) -> None:
        """Forgets a closed connection, admitted or rejected; does nothing for one that it does not know."""
        self._refused.discard(connection)
        network = self._network_by_connection.pop(connection, None)
        if network is not None:
            self._by_address[network] -= 1
            if not self._by_address[network]:
                del self._by_address[network]

    def make_room(self, number: int) -> None:
        """Aborts up to `number` connections that wait for a request, of any address."""
        for _ in range(number):
            if not self._make_room(None):
                return

    def _make_room(self, network: str | None) -> bool:
        """Aborts and forgets one waiting connection of that network (None: of any); false if none waits."""
        # In the order of arrival: the first that waits has usually waited longest.
        for connection, other in self._network_by_connection.items():
            if connection.is_waiting and (network is None or other == network):
                self.leave(connection)
                connection.abort()
                return True
        return False

    def _refuse(self, connection: LimitedConnection) -> bool:
        """Returns False. The sweep watches the rejected connection; one too many is aborted at once."""
        if len(self._refused) >= MAX_PENDING_REFUSALS:
            connection.abort()
        else:
            self._refused.add(connection)
        return False

    def _sweep_soon(self) -> None:
        """Schedules `_sweep` on the running event loop, unless it is scheduled already."""
        if not self._is_sweeping:
            self._is_sweeping = True
            asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """Closes every connection that is overdue, and schedules itself again as long as any is open."""
        now = asyncio.get_running_loop().time()
        for connection in [*self._network_by_connection, *self._refused]:
            connection.close_if_overdue(now)
        self._is_sweeping = False
        if self._network_by_connection or self._refused:
            self._sweep_soon()


@lru_cache(4096)
def network_of(address: str) -> str:
    """What counts as one address: for IPv6 the /64, which one subscriber has."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
