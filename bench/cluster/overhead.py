"""What Ray and an object store add to a run: the Clippy job by the local executor and on a cluster, in turn.

    make bench-ray                       three pairs on the embedded model; needs root and `make test-ray` once
    python -m bench.cluster.overhead --pairs 1 --model smollm2-135m-instruct

Prints for each: seconds from the start to the first step and to the verdict, the trainer's own seconds, whether the
bytes are the same, and the machine's load: on a machine with other work compare pairs only.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import luthier
from bench.cluster import ray_cluster
from bench.cluster.ray_cluster import Moto, RayCluster
from luthier import blobs
from luthier.core.states import RunState
from luthier.core.training.executor_port import Executor
from luthier.executors.local import LocalExecutor
from luthier.executors.ray import RayJobs
from luthier.executors.remote_runs import RemoteRuns
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Metrics, RunEvent, Succeeded
from luthier.run_directory.train_spec import LoraRecipe, TrainSpec
from luthier.runner.run_store import ObjectRunStore
from runs import TARGETS, contents

CLIPPY = Path(luthier.__file__).parent / "examples" / "clippy-training.jsonl"
VENV = Path(os.environ.get("RAY_ENV", ".cache/ray")).absolute()
MODELS = Path(os.environ.get("LUTHIER_MODELS_DIR", ".cache/models")).absolute()


def make_run(path: Path, model: str) -> RunDirectory:
    run = RunDirectory(path)
    path.mkdir()
    run.training.write_bytes(CLIPPY.read_bytes())
    values = {"job_id": "ftjob-1", "base_model": model, "base_folder": MODELS / model, "context_tokens": 2048}
    shape = {"n_epochs": 3, "batch_size": 1, "learning_rate": 1e-3, "seed": 7, "threads": 1}
    run.write_spec(TrainSpec.model_validate(values | shape | {"lora": LoraRecipe(rank=16, alpha=32, targets=TARGETS)}))
    return run


def timed(executor: Executor, run: RunDirectory) -> tuple[float, float, float]:
    """Seconds to the first step and to the verdict as the supervisor sees them, and the trainer's own."""
    began = time.monotonic()
    handle = executor.start(run.path, 1)
    first_s, events = 0.0, list[RunEvent]()
    while not (events and isinstance(events[-1], Succeeded)):
        assert executor.look(handle) is not RunState.GONE or events, f"no event: {run.log}"
        executor.sync(run.path, handle)
        events = [event for event, _ in run.tail()]
        if not first_s and any(isinstance(event, Metrics) for event in events):
            first_s = time.monotonic() - began
        time.sleep(0.2)
    end_s = time.monotonic() - began
    executor.stop(handle)
    for _ in range(2):  # the second deletes what the last events dropped
        executor.sync(run.path, handle)
    verdict = events[-1]
    assert isinstance(verdict, Succeeded)
    return first_s, end_s, verdict.seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    asked = parser.parse_args()
    if (reason := ray_cluster.missing(VENV)) is not None:
        sys.stderr.write(f"{reason}\n")
        return 1
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that the cluster is taken down
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        moto = Moto(VENV / "bin" / "python", "10.77.0.1")
        os.environ.update(moto.environment)
        with RayCluster(folder, VENV, {"LUTHIER_MODELS_DIR": str(MODELS)}) as cluster, moto:
            url = f"s3://{moto.bucket}"
            launcher = RayJobs(cluster.dashboard, python=sys.executable, environment={"LUTHIER_BLOBS_URL": url})
            remote = RemoteRuns(ObjectRunStore(blobs.by_url(url)), launcher)
            for pair in range(asked.pairs):
                here, there = (make_run(folder / f"{word}{pair}", asked.model) for word in ("local", "ftjob-"))
                for word, executor, run in (("local", LocalExecutor(), here), ("ray", remote, there)):
                    first_s, end_s, train_s = timed(executor, run)
                    figures = f"first step {first_s:6.1f} s  verdict {end_s:6.1f} s  trainer {train_s:6.1f} s"
                    sys.stdout.write(f"{word:6} {figures}  load {os.getloadavg()[0]:.1f}\n")
                sys.stdout.write(f"same bytes: {contents(here) == contents(there)}\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
