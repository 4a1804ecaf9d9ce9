"""Starts a trainer and follows it for `luthier train` and `luthier reproduce`: events as one live line; Ctrl-C stops it
after the step.
"""

import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from luthier.cli.screen import Screen
from luthier.core.states import RunState
from luthier.core.training.executor_port import Executor
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import (
    Advice,
    CheckpointSaved,
    Failed,
    Message,
    Metrics,
    RunEvent,
    Started,
    Succeeded,
)

POLL_S = 0.2
FEW_STEPS = 100
"""Into a pipe, a run of at most this many steps prints every step; a longer one every tenth."""
_RECENT_STEPS = 10


def train(executor: Executor, run: RunDirectory, console: Screen) -> Succeeded | Failed | None:
    """Trains until the verdict, the run's last event; None if a signal stopped the trainer, or if it died.

    A run that has its verdict is not started again. SIGINT, SIGTERM and SIGHUP stop the trainer: it finishes its step,
    saves and exits. A second signal has its usual effect: by Ctrl-C, KeyboardInterrupt, without waiting for the
    trainer.
    """
    earlier = list(run.tail())
    verdict, offset = _verdict(earlier[-1][0]) if earlier else None, earlier[-1][1] if earlier else 0
    if verdict is not None:
        return verdict
    with _caught() as stopping, _Line(console) as line:
        handle = executor.start(run.path)
        while True:
            # Look first, then read: what it wrote before it exited is complete when we read.
            alive = executor.look(handle) is RunState.ALIVE
            for event, end in run.tail(offset):
                line.show(event)
                verdict, offset = _verdict(event), end
            if not alive:
                return verdict
            if stopping:
                stopping.clear()
                _stop(executor, handle, console)
            time.sleep(POLL_S)


def _verdict(event: RunEvent) -> Succeeded | Failed | None:
    """The event if it is how a run ends; None for any other."""
    return event if isinstance(event, Succeeded | Failed) else None


def _stop(executor: Executor, handle: str, console: Screen) -> None:
    """Asks the trainer to save and exit, and waits until it has exited. At KeyboardInterrupt it stops waiting, and
    passes it on.
    """
    console.print("Stopping: the trainer finishes its step and saves.", highlight=False)
    try:
        executor.stop(handle)
    except KeyboardInterrupt:
        console.print("Not waiting for the trainer: it exits by itself.", highlight=False)
        raise


@contextmanager
def _caught() -> Iterator[list[int]]:
    """A list that the first signal of the block fills with its number; from the second on, signals have the effect that
    they had before. Changes the process's signal handlers until the block ends.
    """
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    # Ignored signals stay ignored: nohup and a shell's background jobs rely on it.
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}

    def restore() -> None:
        """Gives the signals back the handlers of before."""
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        """The handler of the first signal: notes it, so that only the next one interrupts."""
        received.append(number)
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        restore()


class _Line:
    """The progress of a run: one live line in a terminal, plain lines elsewhere. `_recent` are the last steps' metrics,
    for throughput and time left.
    """

    def __init__(self, console: Screen) -> None:
        self._console = console
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        self._progress = Progress(*columns, console=console, disable=not console.draws)
        self._task = self._progress.add_task("starting", total=None)
        self._recent: deque[Metrics] = deque(maxlen=_RECENT_STEPS)

    def __enter__(self) -> "_Line":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, event: RunEvent) -> None:
        """Shows one event of the run; the verdict and kinds that are not for users show nothing."""
        match event:
            case Message():
                self._say(event.message)
            case Started():
                self._say(
                    f"{event.n_examples} examples, {event.n_tokens} tokens an epoch, {event.supervised_tokens} of them "
                    f"learned, {event.n_steps} steps."
                )
            case Metrics():
                self._step(event)
            case Advice():
                prefer = f" Prefer the checkpoint of step {event.prefer_step}." if event.prefer_step else ""
                self._say(event.message + prefer)
            case CheckpointSaved():
                self._say(f"Checkpoint after step {event.step}, the end of epoch {event.epoch}.")

    def _step(self, event: Metrics) -> None:
        """Updates the live line; elsewhere prints the step, of a run of more than FEW_STEPS only every tenth."""
        self._recent.append(event)
        words = progress_words(list(self._recent))
        self._progress.update(self._task, description=words, completed=event.step, total=event.n_steps)
        shown = event.n_steps <= FEW_STEPS or event.step % 10 == 0 or event.step in (1, event.n_steps)
        if not self._console.is_terminal and shown:
            self._say(f"step {event.step}/{event.n_steps}  {words}")

    def _say(self, text: str) -> None:
        """Prints a line above the live one."""
        self._console.print(text, highlight=False, markup=False)


def progress_words(recent: list[Metrics]) -> str:
    """Loss of the last step, throughput of the recent steps, and the time left at their pace, pauses included. `recent`
    has at least one step, oldest first; with only one there is no time left, and without measured seconds no
    throughput.
    """
    last = recent[-1]
    words = [f"loss {last.train_loss:.4f}"]
    if seconds := sum(step.seconds or 0.0 for step in recent):
        words.append(f"{sum(step.tokens or 0 for step in recent) / seconds:,.0f} tokens/s")
    if len(recent) > 1:
        pace = (last.at - recent[0].at) / (last.step - recent[0].step)
        words.append(f"{timedelta(seconds=round(pace * (last.n_steps - last.step)))} left")
    return "  ".join(words)
