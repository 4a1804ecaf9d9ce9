"""The job's steps by Luthier's trainer, as its executor starts it: a process at a run directory."""

import itertools
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from bench import flops, process
from bench.job import Job
from luthier.executors import local
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Failed, Metrics, Started
from luthier.run_directory.train_spec import LoraRecipe, TrainSpec

WATCH_S = 0.02


def measure(job: Job, folder: Path) -> tuple[dict[str, Any], int]:
    """Figures as `trl_run` writes them, and peak memory. The run is told to leave once its last step is written."""
    run = write(job, folder)
    log = folder / "process.log"
    env = process.environment(allocator=local.allocator())
    peak_bytes = process.run(["luthier.trainer", str(folder)], env, log, lambda child: _watch(run, child, job.steps))
    times, losses = [], []
    for event, _ in run.tail():
        match event:
            case Started():
                times.append(event.at)
            case Metrics() if event.step <= job.steps:
                times.append(event.at)
                losses.append(event.train_loss)
            case Failed():
                raise SystemExit(f"the run failed: {event.message}")
    facts = flops.load(job.facts)
    seconds = [end - start for start, end in itertools.pairwise(times)]
    tokens, learned = list(facts.tokens), list(facts.learned_tokens)
    return {"seconds": seconds, "losses": losses, "tokens": tokens, "loss_tokens": learned}, peak_bytes


def write(job: Job, folder: Path) -> RunDirectory:
    """A run directory that goes on from the job's adapter."""
    folder.mkdir(parents=True)
    run = RunDirectory(folder)
    shutil.copy(job.rows, run.training)
    shutil.copytree(job.adapter, run.parent)
    run.write_spec(
        TrainSpec(
            job_id="bench",
            base_model=job.base_model,
            base_folder=job.base_folder,
            continued=True,
            context_tokens=job.context_tokens,
            seed=job.seed,
            n_epochs=1,
            batch_size=job.batch_size,
            learning_rate=job.learning_rate,
            lora=LoraRecipe.model_validate(job.lora),
        )
    )
    return run


def _watch(run: RunDirectory, child: subprocess.Popen[bytes], steps: int) -> None:
    """Waits for the last step's event, then asks the trainer to leave."""
    offset = 0
    while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        for event, behind in run.tail(offset):
            offset = behind
            if isinstance(event, Metrics) and event.step == steps:
                child.terminate()
                return
        time.sleep(WATCH_S)
