"""Tries grammars before an engine gets them, owners taking turns, and caches the verdicts by the grammars' text.

A part of the service's process; the trials themselves run in a child process (`trial`, `worker`).
"""

import asyncio
import hashlib
import json
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import llguidance

from luthier.core.errors import Unavailable
from luthier.grammars import tokens
from luthier.grammars.matcher import Matcher
from luthier.grammars.trial import NoVerdict, TrialProcess, Verdict

WAIT_S = 5.0
"""So long at most a caller waits for the verdict on a grammar; most are there within a hundredth of a second."""
_MAX_CACHED = 256
_MAX_CACHED_CHARACTERS = 500_000
"""Of grammars whose matchers are kept: one takes about two hundred times its text, so that all take 100 MB."""
_MAX_STATES = 30_000
"""Of the matcher of a grammar, for all answers that are checked with it: some 30 MB."""
_MAX_WAITING = 64
"""Of one owner; each has half a second of processor time."""


@dataclass(frozen=True, slots=True)
class CheckedGrammar:
    """A grammar with its verdict: `fault` is None for a usable one, "unknown" for an invalid, "complex" for a costly.

    `cpu_s` is the processor time in seconds that building it took. `matcher` is None only with a fault.
    """

    fault: str | None
    cpu_s: float
    matcher: llguidance.LLMatcher | None = None

    def new_matcher(self) -> Matcher:
        """A matcher for one answer, from its beginning; only of a grammar without fault."""
        assert self.matcher is not None
        return Matcher(self.matcher.deep_copy())


@dataclass(frozen=True, slots=True)
class _Job:
    """Grammars that wait for their trial, the answer's first, then those of its parts.

    `key` is their hash, `verdict` what their callers wait for.
    """

    key: str
    grammars: Sequence[str]
    verdict: "Future[CheckedGrammar]"


class GrammarChecker:
    """Tries grammars in a child process, one at a time, with a thread that asks it. Safe from every thread.

    Nothing is started before `start` or the first grammar.
    """

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._kept: OrderedDict[str, tuple[CheckedGrammar, int]] = OrderedDict()
        self._kept_characters = 0
        self._running: dict[str, Future[CheckedGrammar]] = {}
        self._waiting: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._process = TrialProcess()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def checked(
        self, owner: str, grammar: str, parts: Sequence[str] = (), wait_s: float = WAIT_S
    ) -> CheckedGrammar:
        """The grammar of an answer after its trial with the grammars of its `parts`; from the cache if tried before.

        `owner` is whose turn it takes. Raises Unavailable (for the caller: try again) if there is no verdict in
        `wait_s` seconds, or the owner has too many waiting; a trial that was queued goes on nevertheless.
        """
        future = self._ask(owner, [grammar, *parts])
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), wait_s)
        except TimeoutError:
            raise _busy() from None
        except NoVerdict:
            raise _busy() from None

    def start(self) -> None:
        """Starts the thread, and with it the process, so that the first grammar does not wait.

        Does nothing if it runs, or once closed.
        """
        with self._lock:
            if (self._thread is None or not self._thread.is_alive()) and not self._closed:
                self._thread = threading.Thread(target=self._work, name="grammars", daemon=True)
                self._thread.start()

    def pids(self) -> list[int]:
        """The ids of the child processes that run now: one or none."""
        return self._process.pids()

    def close(self) -> None:
        """Ends the process and the thread, and waits for them; whoever still waits for a verdict gets Unavailable."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
            thread = self._thread
        self._process.interrupt()
        if thread is not None:
            thread.join()

    def _ask(self, owner: str, grammars: Sequence[str]) -> "Future[CheckedGrammar]":
        """The verdict to come on grammars: a kept one, that of a trial under way, or of one queued for the owner now.

        Raises Unavailable if closed, or if the owner has _MAX_WAITING grammars waiting.
        """
        key = hashlib.sha256(json.dumps(grammars).encode()).hexdigest()
        with self._lock:
            future: Future[CheckedGrammar]
            if key in self._kept:
                self._kept.move_to_end(key)
                future = Future()
                future.set_result(self._kept[key][0])
                return future
            if key in self._running:
                return self._running[key]
            if self._closed or len(self._waiting.get(owner, ())) >= _MAX_WAITING:
                raise _busy()
            future = self._running[key] = Future()
            self._waiting.setdefault(owner, deque()).append(_Job(key, grammars, future))
            self._lock.notify()
        self.start()
        return future

    def _work(self) -> None:
        """The thread's work until `close`: asks the process about one job after the other; ends the process at last."""
        process = self._process
        bytes_alone = tokens.byte_tokenizer()
        try:
            process.start()
            while (job := self._next()) is not None:
                checked = None
                try:
                    checked = _checked(process.ask(job.grammars), job.grammars[0], bytes_alone)
                except NoVerdict:
                    pass
                finally:
                    self._done(job, checked)
                process.start()  # if it ended over that grammar, the next one need not wait for another
        finally:
            process.end()

    def _next(self) -> _Job | None:
        """Waits for the next job of the owner whose turn it is, and takes it from the queue.

        None once all is closed; jobs that still wait then have no verdict.
        """
        with self._lock:
            while not self._waiting and not self._closed:
                self._lock.wait()
            if self._closed:
                for queue in self._waiting.values():
                    for job in queue:
                        job.verdict.set_exception(NoVerdict())
                return None
            owner, queue = self._waiting.popitem(last=False)
            job = queue.popleft()
            if queue:
                self._waiting[owner] = queue  # behind the others
            return job

    def _done(self, job: _Job, checked: CheckedGrammar | None) -> None:
        """Gives a job's callers its verdict, NoVerdict if that is None, and caches it.

        Drops the verdicts not used for longest, beyond the limits of the cache.
        """
        with self._lock:
            del self._running[job.key]
            if checked is None:
                job.verdict.set_exception(NoVerdict())
                return
            job.verdict.set_result(checked)
            length = len(job.grammars[0])
            self._kept[job.key] = (checked, length)
            self._kept_characters += length
            while len(self._kept) > _MAX_CACHED or self._kept_characters > _MAX_CACHED_CHARACTERS:
                _, (_, length) = self._kept.popitem(last=False)
                self._kept_characters -= length


def _checked(verdict: Verdict, grammar: str, bytes_alone: llguidance.LLTokenizer) -> CheckedGrammar:
    """A verdict with the matcher for answers, built here; "unknown" where building fails after all."""
    if verdict.fault is not None:
        return CheckedGrammar(verdict.fault, verdict.cpu_s)
    limits = llguidance.LLParserLimits(max_lexer_states=_MAX_STATES)
    matcher = llguidance.LLMatcher(bytes_alone, grammar, log_level=0, limits=limits)
    return CheckedGrammar("unknown" if matcher.is_error() else None, verdict.cpu_s, matcher)


def _busy() -> Unavailable:
    """Makes the Unavailable that callers get; it does not say whose grammars are in the way."""
    return Unavailable(
        "grammars_busy", "The schemas of other requests are being tried just now. Ask again in a second.", None
    )
