"""The run's event log as the trainer writes it: after a restart, nothing that is logged is logged again."""

import time
from collections.abc import Callable
from typing import Literal

from luthier.core.states import AdviceCode
from luthier.run_directory import (
    Advice,
    CheckpointSaved,
    Failed,
    Message,
    Metrics,
    Paused,
    RunDirectory,
    RunEvent,
    Started,
    Succeeded,
)


class Journal:
    """Appends events of one run, each once however often the trainer is started.

    `guard` raises where the run is no longer ours to write to. It stands before every event; call it before other
    writes too, when much time has passed since the last one.
    """

    def __init__(self, run: RunDirectory, guard: Callable[[], None] = lambda: None) -> None:
        self._run = run
        self.guard = guard
        self._messages: set[str] = set()
        self._checkpoints: set[str] = set()
        self._dropped: set[str] = set()
        self._advice: set[tuple[AdviceCode, int | None]] = set()
        self.step = 0
        """The last step whose figures are told."""
        self._started = False
        self.verdict: Succeeded | Failed | None = None
        for event, _ in run.tail():
            self._note(event)

    @property
    def kept(self) -> frozenset[str]:
        """The folders of checkpoints that were told and did not make way for newer ones."""
        return frozenset(self._checkpoints - self._dropped)

    def say(self, message: str, level: Literal["info", "warning"] = "info") -> None:
        if message not in self._messages:
            self.write(Message(at=time.time(), level=level, message=message))

    def start(self, n_steps: int, n_examples: int, n_tokens: int, supervised_tokens: int) -> None:
        if not self._started:
            self.write(
                Started(
                    at=time.time(),
                    n_steps=n_steps,
                    n_examples=n_examples,
                    n_tokens=n_tokens,
                    supervised_tokens=supervised_tokens,
                )
            )

    def metrics(self, metrics: Metrics) -> None:
        if metrics.step > self.step:
            self.write(metrics)

    def advise(self, advice: Advice) -> None:
        """A kind of advice is given once, but for overfitting: again where another checkpoint is the best by then."""
        if _key(advice) not in self._advice:
            self.write(advice)

    def checkpoint(self, saved: CheckpointSaved) -> None:
        if saved.folder not in self._checkpoints:
            self.write(saved)

    def write(self, event: RunEvent) -> None:
        self.guard()
        self._run.append(event)
        self._note(event)

    def _note(self, event: RunEvent) -> None:
        match event:
            case Message():
                self._messages.add(event.message)
            case Started():
                self._started = True
            case Metrics():
                self.step = max(self.step, event.step)
            case Advice():
                self._advice.add(_key(event))
            case CheckpointSaved():
                self._checkpoints.add(event.folder)
                self._dropped.update(event.dropped)
            case Paused():
                pass
            case Succeeded() | Failed():
                self.verdict = event


def _key(advice: Advice) -> tuple[AdviceCode, int | None]:
    return advice.code, advice.prefer_step if advice.code is AdviceCode.OVERFITTING else None
