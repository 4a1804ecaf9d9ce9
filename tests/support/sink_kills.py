"""kill -9 of whatever sends metrics, again and again, while a job goes on."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import tracked
from luthier.core.models import Job
from luthier.core.states import SinkState
from luthier.service.context import Context
from luthier.store.queries.delivery import sink_cursors
from waiting import until

PROGRAM = Path(__file__).with_name("sink_process.py")


class Sender:
    """The process, started again and again over one context's data folder."""

    def __init__(self, context: Context) -> None:
        targets = context.tracking
        assert targets.mlflow is not None
        told = {"data": context.data_folder, "tensorboard": targets.tensorboard, "mlflow": targets.mlflow.uri}
        told |= {"trackio": targets.trackio, "python": targets.python}
        told |= {"wandb": targets.wandb.folder} if targets.wandb is not None else {}
        argument = json.dumps({name: str(value) for name, value in told.items()})
        command = [sys.executable, str(PROGRAM), argument]
        self._forks = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._pid = 0

    def start(self) -> None:
        assert self._forks.stdin is not None
        self._forks.stdin.write("\n")
        self._forks.stdin.flush()
        self._pid = int(self._line())

    def kill(self) -> None:
        """kill -9, as a crash would."""
        os.kill(self._pid, signal.SIGKILL)

    def reap(self) -> None:
        """Returns once it has ended."""
        assert self._line() == "ended\n"
        self._pid = 0

    def close(self) -> None:
        if self._pid:
            self.kill()
        _, _ = self._forks.communicate(timeout=30)

    def _line(self) -> str:
        assert self._forks.stdout is not None
        return self._forks.stdout.readline()


def killed_at_random(
    context: Context, sender: Sender, job: Job, steps: int, kills: int, within_s: float, seed: int
) -> None:
    """Adds a job's steps to its end while the process is killed so many times, each within so many seconds of its
    start; returns when all sinks are done.
    """
    chance = random.Random(seed)
    parts = kills + 1
    for number in range(parts):
        sender.start()
        last = (number + 1) * steps // parts
        for first in range(number * steps // parts + 1, last + 1, 5):
            tracked.add_steps(context, job, first, min(first + 4, last))
        if number < kills:
            time.sleep(chance.uniform(0.0, within_s))  # a kill may come at any moment
            sender.kill()
            sender.reap()
    tracked.finish(context, job)
    until(lambda: is_done(context, job), 60)


def is_done(context: Context, job: Job) -> bool:
    with context.database.reading() as tx:
        return all(cursor.state is SinkState.DONE for cursor in sink_cursors.list_of_job(tx, job.id))
