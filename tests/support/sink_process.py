"""A process with nothing but the sinks' workers of a data folder, as the service runs them, for tests that kill it.

Its one argument is JSON: `data`, `tensorboard`, `mlflow`, `trackio`, `python`. It prints a line when it begins.
"""

import json
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path

from luthier import blobs, catalog
from luthier.core.training.tracking import MlflowTarget, TrackingTargets
from luthier.service.background.sink_worker import SinkWorker
from luthier.service.context import Context
from luthier.store.db import Database
from luthier.trackers import tracker_choice
from luthier.url_fetch.address_policy import Allowed
from luthier.url_fetch.fetcher import GuardedFetcher


def main(told: dict[str, str]) -> None:
    folder = Path(told["data"])
    targets = TrackingTargets(
        tensorboard=Path(told["tensorboard"]),
        mlflow=MlflowTarget(told["mlflow"]),
        trackio=Path(told["trackio"]),
        python=told["python"],
    )
    context = Context(
        database=Database(folder / "luthier.db"),
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
    print("begins", flush=True)
    for worker in workers:
        worker.start()
    sys.stdin.read()
    for worker in workers:
        worker.stop()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
