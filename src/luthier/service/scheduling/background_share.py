"""How much of an engine's slots and context answers in the background may hold, and which of them live ones end."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from luthier.core.engine_ports import Capacity
from luthier.core.errors import Unavailable

PREEMPTED = "preempted"
"""The code of the error of an answer that was ended for a live one."""


@dataclass(slots=True, eq=False)
class BackgroundAnswer:
    """An answer in the background that is in progress, with so many tokens of the context.

    `preempt` ends it, for a live answer that waits; `preemptible` sets it.
    """

    tokens: int
    preempt: Callable[[], object] = lambda: None
    is_preempted: bool = False


class BackgroundShare:
    """Half of an engine while no live answer is in progress, a quarter beside one; a slot is kept free for the next.

    An answer that is too long for its share gets the engine if it is idle. Not for several threads.
    """

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._answers: list[BackgroundAnswer] = []  # newest last

    def admits(self, tokens: int, has_live: bool, idle_slots: int, free_tokens: int) -> bool:
        """Whether one more answer of so many tokens may begin in what is free; `has_live`: beside live ones."""
        if idle_slots <= int(has_live) or free_tokens < tokens:
            return False
        divisor = 4 if has_live else 2
        slots, context = self._capacity.slots // divisor, self._capacity.context_tokens // divisor
        if not self._answers:
            return not has_live or (slots > 0 and tokens <= context)
        return len(self._answers) < slots and sum(answer.tokens for answer in self._answers) + tokens <= context

    def add(self, tokens: int) -> BackgroundAnswer:
        """Counts an answer that begins."""
        self._answers.append(BackgroundAnswer(tokens))
        return self._answers[-1]

    def remove(self, answer: BackgroundAnswer) -> None:
        """Counts the end of an answer."""
        self._answers.remove(answer)

    def make_room(self, slots: int, tokens: int) -> None:
        """Ends the newest answers, as many as it takes to give so many slots and tokens; none if all would not do.

        Those that were told before, and have not ended yet, count.
        """
        chosen: list[BackgroundAnswer] = []
        told = [answer for answer in self._answers if answer.is_preempted]
        for answer in (*told, *(answer for answer in reversed(self._answers) if not answer.is_preempted)):
            if slots <= len(chosen) and tokens <= sum(one.tokens for one in chosen):
                break
            chosen.append(answer)
        if slots > len(chosen) or tokens > sum(one.tokens for one in chosen):
            return
        for answer in chosen:
            if not answer.is_preempted:
                answer.is_preempted = True
                answer.preempt()


@contextmanager
def preemptible(answer: BackgroundAnswer | None) -> Iterator[None]:
    """A block of the running task that generates the answer; None: one that nothing ends.

    Raises Unavailable, where the block waits, once the answer is preempted.
    """
    task = asyncio.current_task()
    if answer is None or task is None:
        yield
        return
    if answer.is_preempted:
        raise _preempted()
    answer.preempt = task.cancel
    try:
        yield
    except asyncio.CancelledError:
        if answer.is_preempted and task.uncancel() == 0:  # else somebody else has cancelled the task as well
            raise _preempted() from None
        raise
    finally:
        answer.preempt = lambda: None


def _preempted() -> Unavailable:
    """The error of an answer that was ended for a live one: it may be asked for again."""
    return Unavailable(PREEMPTED, "This answer in the background was ended for a live one. Ask again.")
