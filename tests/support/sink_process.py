"""Processes with nothing but the sinks' workers of a data folder, as the service runs them, for tests that kill them.

For each line of input it forks one, prints its id, and waits for its end: imports would take most of a test's time. Its
one argument is JSON: `data`, `tensorboard`, `mlflow`, `trackio`, `python`, and `wandb` if it is
to be sent there.
"""

import json
import os
import secrets
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from luthier import blobs, catalog
from luthier.core.training.tracking import MlflowTarget, TrackingTargets, WandbTarget
from luthier.service.background.sink_worker import SinkWorker
from luthier.service.context import Context
from luthier.store.db import SqliteDatabase
from luthier.trackers import tracker_choice
from luthier.url_fetch.address_policy import Allowed
from luthier.url_fetch.fetcher import GuardedFetcher


def main(told: dict[str, str]) -> None:
    folder = Path(told["data"])
    targets = TrackingTargets(
        tensorboard=Path(told["tensorboard"]),
        mlflow=MlflowTarget(told["mlflow"]),
        trackio=Path(told["trackio"]),
        wandb=WandbTarget(Path(told["wandb"])) if "wandb" in told else None,
        python=told["python"],
    )
    context = Context(
        database=SqliteDatabase(folder / "luthier.db"),
        blobs=blobs.local(folder / "blobs"),
        catalog=catalog.load(),
        data_folder=folder,
        models_folder=folder,
        runs_folder=folder,
        served_folder=folder,
        now=lambda: datetime.now(UTC),
        new_hex=lambda: secrets.token_hex(16),
        new_seed=lambda: 1,
        fetcher=GuardedFetcher(Allowed()),
        tracking=targets,
    )
    workers = [SinkWorker(context, sink, tick_s=0.002) for sink in tracker_choice.sinks(targets)]
    for worker in workers:
        worker.start()
    threading.Event().wait()


if __name__ == "__main__":
    for _ in sys.stdin:
        if (pid := os.fork()) == 0:
            main(json.loads(sys.argv[1]))
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("ended", flush=True)
