"""A process's shares of rate limits that hold over several processes, granted by the database.

A share is what the process may admit in any 60 s. The sum of all shares of a limit is at most the limit, and no share
becomes less than what its process has admitted in the last 60 s, so all processes together keep the limit at every
moment. A process writes only when a share is used up, and every RENEW_S while it has any: not for each call.

The price is fairness. Beside what it uses, a process holds at most two chunks, 2/32 of a limit, for its next calls: so
of n processes one may refuse a call while (n - 1)/16 of the limit is unused. Of a limit of fewer than CHUNKS requests
nothing is held in advance. What a process does not use any more is back after RETURN_S.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from luthier.core.errors import LuthierError
from luthier.store.db import Database
from luthier.store.queries.leasing import database_clock, rate_grants
from luthier.store.queries.leasing.rate_grants import Share

logger = logging.getLogger(__name__)

CHUNKS = 32
"""A share grows by this part of its limit at a time."""
RETURN_S = 2.0
"""So often a process gives back what it holds beyond its use and a chunk."""
RENEW_S = 10.0
VALID_S = 30.0
"""After so long without a renewal a process admits nothing: the database may have given its shares to others, which
wait WINDOW longer, for what was admitted just before."""
WINDOW = timedelta(seconds=60)
ASK_AGAIN_S = 1.0
"""After a refusal the database is asked again for the same limit only then."""


@dataclass(slots=True)
class RateGrants:
    """The shares of one process, named as its lease is. Safe from several threads; those of `ask`, `adjust` wait for
    the database.

    `steady_s` is a monotonic clock that counts the time in suspend too.
    """

    database: Database
    process: str
    steady_s: Callable[[], float]
    _shares: dict[str, Share] = field(default_factory=dict)
    _others: dict[str, Share] = field(default_factory=dict)
    _refused_s: dict[str, float] = field(default_factory=dict)
    _renewed_s: float | None = None
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def share(self, name: str) -> Share:
        """What this process may admit of the limit in any 60 s; nothing if its time is over."""
        is_valid = self._renewed_s is not None and self.steady_s() - self._renewed_s < VALID_S
        return self._shares.get(name, Share()) if is_valid else Share()

    def others(self, name: str) -> Share:
        """What all other processes had of the limit when this one last asked."""
        return self._others.get(name, Share())

    def may_ask(self, name: str) -> bool:
        """Whether `ask` could give more, as far as this process knows."""
        refused_s = self._refused_s.get(name)
        return refused_s is None or self.steady_s() - refused_s >= ASK_AGAIN_S

    def ask(self, name: str, limit: Share, used: Share, tokens: int) -> None:
        """Asks for room for one more request of so many tokens beside what is `used`, and a chunk for the next ones.

        Gives nothing if all shares and the use are at the limit. As a window admits a request while it is below its
        limit, the last one may exceed it. Raises Unavailable and NoSpace of the database.
        """
        with self._writing:
            began_s = self.steady_s()
            with self.database.writing() as tx:
                now = database_clock.now(tx)
                others = rate_grants.sum_of_others(tx, name, self.process)
                free = Share(
                    limit.requests - others.requests - used.requests, limit.tokens - others.tokens - used.tokens
                )
                if is_given := free.requests > 0 and free.tokens > 0:
                    grown = Share(
                        used.requests + min(free.requests, 1 + limit.requests // CHUNKS),
                        used.tokens + max(tokens, min(free.tokens, tokens + limit.tokens // CHUNKS)),
                    )
                    # A share whose time was over is counted by nobody any more: only a valid one is kept.
                    valid = {**self._valid(), name: _larger(grown, self.share(name))}
                    rate_grants.put(tx, self.process, valid, now + timedelta(seconds=VALID_S) + WINDOW)
            self._others[name] = others
            if is_given:
                self._shares, self._renewed_s = valid, began_s
                self._refused_s.pop(name, None)
            else:
                self._refused_s[name] = began_s

    def adjust(self, measure: Callable[[], Mapping[str, Share]], admitting: threading.Lock) -> None:
        """Sets the shares to what `measure` says is to be kept, gives the rest back, and renews what is kept if due.

        `admitting` is held by whoever admits a call: shares shrink here before the database gives them to others.
        Raises Unavailable and NoSpace of the database; then the shares here are the smaller ones.
        """
        with self._writing:
            with admitting:
                began_s, before, wanted = self.steady_s(), self._shares, dict(measure())
                kept = {name: share for name, share in self._valid().items() if name in wanted}
                self._shares = {name: _smaller(share, wanted[name]) for name, share in kept.items()}
            is_due = self._renewed_s is None or began_s - self._renewed_s >= RENEW_S
            if before == wanted and not (wanted and is_due):
                self._shares = wanted
                return
            with self.database.writing() as tx:
                expires_at = database_clock.now(tx) + timedelta(seconds=VALID_S) + WINDOW
                rate_grants.remove(tx, self.process, before.keys() - wanted.keys())
                rate_grants.remove_over(tx)
                rate_grants.put(tx, self.process, wanted, expires_at)
            self._shares, self._renewed_s = wanted, began_s

    def _valid(self) -> dict[str, Share]:
        """The shares that may be used now."""
        return {name: share for name in self._shares if (share := self.share(name)) != Share()}


class GrantKeeper:
    """Gives back what is not used, and renews the rest, in a thread from `start` to `stop`."""

    def __init__(self, adjust: Callable[[], None]) -> None:
        """`adjust` is called every RETURN_S."""
        self._adjust = adjust
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rate-grants", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, if it was started."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(RETURN_S):
            try:
                self._adjust()
            except LuthierError as error:
                logger.error("shares of rate limits not written code=%s", error.code)


def _smaller(one: Share, other: Share) -> Share:
    return Share(min(one.requests, other.requests), min(one.tokens, other.tokens))


def _larger(one: Share, other: Share) -> Share:
    return Share(max(one.requests, other.requests), max(one.tokens, other.tokens))
