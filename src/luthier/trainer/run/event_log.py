"""The run's event log (events.jsonl) as the trainer writes it: idempotent, so a resumed run logs no event twice.

The service reads the file while it grows (docs/run-directory.md).
"""

import time
from collections.abc import Callable
from typing import Literal

from luthier.core.states import AdviceCode
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import (
    Advice,
    CheckpointHeld,
    CheckpointSaved,
    Failed,
    Message,
    Metrics,
    Paused,
    RunEvent,
    Saved,
    Started,
    Succeeded,
)


class EventLog:
    """Appends the events of one run, each once, however often the trainer is started.

    With `silent` it reads and writes nothing: that of a rank other than 0.

    `guard` raises RunTaken if this process has lost the run. It is called before every event; call it before other
    writes too if much time has passed since the last one.
    """

    def __init__(self, run: RunDirectory, guard: Callable[[], None] = lambda: None, *, silent: bool = False) -> None:
        """Reads the events that are logged. Raises Conflict at a damaged line."""
        self._run = run
        self._silent = silent
        self.guard = guard
        self._messages: set[str] = set()
        self._checkpoints: set[str] = set()
        self._held: set[str] = set()
        self._dropped: set[str] = set()
        self._advice: set[tuple[AdviceCode, int | None]] = set()
        self.step = 0
        """The last step whose metrics are logged."""
        self._saved_step = 0
        self._started = False
        self.verdict: Succeeded | Failed | None = None
        for event, _ in () if silent else run.tail():
            self._note(event)

    @property
    def kept(self) -> frozenset[str]:
        """The folders of logged checkpoints that were not dropped for newer ones."""
        return frozenset(self._checkpoints - self._dropped)

    @property
    def held(self) -> frozenset[str]:
        """The folders held without probes that neither became checkpoints nor were dropped."""
        return frozenset(self._held - self._checkpoints - self._dropped)

    def say(self, message: str, level: Literal["info", "warning"] = "info") -> None:
        """Logs a message for the job's owner, unless the same text is logged already."""
        if message not in self._messages:
            self.write(Message(at=time.time(), level=level, message=message))

    def start(self, n_steps: int, n_examples: int, n_tokens: int, supervised_tokens: int) -> None:
        """Logs once that the steps begin; token counts are those of one epoch."""
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
        """Logs a step's metrics, unless an attempt before this one got as far."""
        if metrics.step > self.step:
            self.write(metrics)

    def advise(self, advice: Advice) -> None:
        """Logs each kind of advice once; overfitting again if another checkpoint is the best by then."""
        if _key(advice) not in self._advice:
            self.write(advice)

    def checkpoint(self, saved: CheckpointSaved) -> None:
        """Logs a complete checkpoint, once per folder."""
        if saved.folder not in self._checkpoints:
            self.write(saved)

    def hold(self, held: CheckpointHeld) -> None:
        """Logs a checkpoint without probes, once per folder."""
        if held.folder not in self._held:
            self.write(held)

    def saved(self, step: int) -> None:
        """Logs that the resume point of `step` is on disk, unless a later or the same one is logged; 0 is none."""
        if step > self._saved_step:
            self.write(Saved(at=time.time(), step=step))

    def write(self, event: RunEvent) -> None:
        """Appends the event, whatever is logged, and waits until it is on disk. Raises RunTaken, or NoSpace."""
        if self._silent:
            return
        self.guard()
        self._run.append(event)
        self._note(event)

    def _note(self, event: RunEvent) -> None:
        """Remembers what an event says, so that it is not logged again."""
        match event:
            case Message():
                self._messages.add(event.message)
            case Started():
                self._started = True
            case Metrics():
                self.step = max(self.step, event.step)
            case Advice():
                self._advice.add(_key(event))
            case CheckpointHeld():
                self._held.add(event.folder)
                self._dropped.update(event.dropped)
            case CheckpointSaved():
                self._checkpoints.add(event.folder)
                self._dropped.update(event.dropped)
            case Saved():
                self._saved_step = max(self._saved_step, event.step)
            case Paused():
                pass
            case Succeeded() | Failed():
                self.verdict = event


def _key(advice: Advice) -> tuple[AdviceCode, int | None]:
    """What makes two pieces of advice the same: the code, and for overfitting the step to prefer."""
    return advice.code, advice.prefer_step if advice.code is AdviceCode.OVERFITTING else None
