"""Follows a job of the service until it ends or is paused: events and a live line on stderr, the model's name on
stdout. Used by `luthier jobs watch`, `jobs create --watch` and `jobs events`.
"""

import time
from collections.abc import Callable
from typing import Any

from rich.text import Text

from luthier.cli import screen as terminal
from luthier.cli.charts import live_chart
from luthier.cli.charts.live_chart import LiveChart
from luthier.cli.screen import Screen, advise, errors, fail, print_json, say
from luthier.core.states import EventCode

POLL_S = 2.0
"""Each look takes a little of the cores that the training needs."""
ENDED = {"succeeded", "failed", "cancelled", "paused"}
"""Where watching ends: nothing more comes by itself."""
_WAITING = {"validating_files": "checking the files", "queued": "waiting for its turn", "running": "loading the model"}


def follow(api: Any, job_id: str, json_: bool) -> None:
    """Shows what a job does until it has ended or is paused; prints its model and what to do next, or the job as JSON.
    Ends the command with exit code 1 if it failed or was cancelled. Ctrl-C ends only the watching, and is raised again.
    """
    try:
        job = _watch(api, job_id)
    except KeyboardInterrupt:
        advise(f"The job goes on. To see more of it: luthier jobs watch {job_id}")
        raise
    if json_:
        print_json(job.to_dict(mode="json"))
    if job.status == "paused":
        advise(f"{job_id} is paused. To go on: luthier jobs resume {job_id}")
        return
    if job.status != "succeeded":
        # An event has told all of it: here is what it begins with.
        why = job.error.message.splitlines()[0] if job.error is not None and job.error.message else ""
        code = job.error.code if job.error is not None and job.error.code else f"job_{job.status}"
        fail(f"{job_id} {job.status}{f': {why}' if why else ''}", code=code)
    if json_:
        return
    advise("Its model:")
    say(job.fine_tuned_model)
    name = job.user_provided_suffix or "my-model"
    advise(f"Next:\n  luthier deployments create {name} --model {job.fine_tuned_model}\n  luthier chat {name}")


def unseen(api: Any, job_id: str, seen: set[str]) -> list[Any]:
    """Events not seen yet, newest first, whose ids are added to `seen`. Reads pages only as far back as needed."""
    fresh = []
    for event in api.fine_tuning.jobs.list_events(job_id, limit=100):
        if event.id in seen:
            break
        seen.add(event.id)
        fresh.append(event)
    return fresh


def values(event: Any, code: EventCode) -> dict[str, Any] | None:
    """The values of a message event with that code; None for any other event. Messages of older versions have none."""
    return event.data if event.type == "message" and event.data and event.data["code"] == code else None


def print_event(event: Any, console: Screen) -> None:
    """Prints local time and message of the event to the console."""
    clock = time.strftime("%H:%M:%S ", time.localtime(event.created_at))
    # One text: of a line that is put together the live display would show the last part alone.
    console.print(Text.assemble((clock, "dim"), event.message), highlight=False)


def _watch(api: Any, job_id: str) -> Any:
    """Polls the job every POLL_S seconds and shows its new events; returns it once its status is one of ENDED."""
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

    seen: set[str] = set()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    chart = LiveChart()
    with terminal.progress(*columns, below=chart) as progress:
        task = progress.add_task("", total=None)
        line = _Line(lambda **values: progress.update(task, **values), chart)
        while True:
            job = api.fine_tuning.jobs.retrieve(job_id)
            line.look(job)
            for event in reversed(unseen(api, job_id, seen)):
                line.show(event)
            if job.status in ENDED:
                return job
            time.sleep(POLL_S)


class _Line:
    """What the live line says: the loss while steps come, and in between what they wait for.

    `_epochs` and `_total`, the run's steps, are 0 until they are known; `_trains` is set by the first sign of training.
    """

    def __init__(self, update: Callable[..., None], chart: LiveChart) -> None:
        self._update = update
        self._chart = chart
        self._epochs = 0
        self._total = 0
        self._trains = False

    def look(self, job: Any) -> None:
        """Takes the job as it is now: its number of epochs and, before it trains, its status as the line's text."""
        epochs = job.hyperparameters.n_epochs
        self._epochs = epochs if isinstance(epochs, int) else 0
        if not self._trains:
            self._update(description=_WAITING.get(job.status, job.status))

    def show(self, event: Any) -> None:
        """Takes an event: metrics update the line, any other event is printed above it."""
        if event.type == "metrics":
            self._trains = True
            self._chart.add(event.data)
            self._step(event.data["step"], event.data["train_loss"])
            return
        if (training := values(event, EventCode.TRAINING)) is not None:
            self._total = training["n_steps"]
            self._trains = True
            self._chart.n_steps = self._total
            self._update(description="training", total=self._total)
        print_event(event, errors)
        if (checkpoint := values(event, EventCode.CHECKPOINT)) is not None and checkpoint["epoch"] is not None:
            self._end_epoch(checkpoint["epoch"])

    def _end_epoch(self, epoch: int) -> None:
        """Prints the epoch's last losses as a line, where no chart shows them."""
        if errors.draws:
            return
        lines = [line for line in live_chart.loss_lines(self._chart.metrics) if line.points]
        words = ", ".join(f"{line.label} loss {line.points[-1][1]:.4f}" for line in lines)
        errors.print(f"Epoch {epoch}: {words}" if words else f"Epoch {epoch}", highlight=False)

    def _step(self, step: int, loss: float) -> None:
        """Shows the step's loss, and what the trainer saves after it: "checkpoint n" at the end of epoch n, the model
        at the end.
        """
        words = f"loss {loss:.3f}"
        if self._total and step == self._total:
            words += ", saving the model"
        elif self._epochs and self._total and step * self._epochs % self._total < self._epochs:
            words += f", checkpoint {step * self._epochs // self._total}"
        self._update(description=words, completed=step)
