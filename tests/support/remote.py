"""A cluster of one node on this machine: a fake Ray head, a store, and the supervisor's side that follows runs."""

import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_ray import FakeRay
from luthier import blobs, model_folder
from luthier.core.errors import Unavailable
from luthier.core.states import RunState
from luthier.executors.followed_run import Terms
from luthier.executors.ray import RayJobs
from luthier.executors.remote_runs import RemoteRuns
from luthier.model_folder import CheckpointFolder
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import CheckpointSaved, Failed, Paused, RunEvent, Succeeded
from luthier.run_directory.shipped_run import ShippedRun
from luthier.run_directory.train_spec import TrainSpec
from luthier.runner.run_store import ObjectRunStore
from runs import events

SUPPORT = Path(__file__).parent
QUICK = Terms(lease_s=6.0, poll_s=0.05, stop_grace_s=20.0, unseen_s=1.0, patience_s=20.0)


@dataclass
class Cluster:
    """`attempts` counts those that were started; `executor` is the present service's, `restarted` another one's."""

    ray: FakeRay
    folder: Path
    python: str = sys.executable
    terms: Terms = QUICK
    url: str = ""
    executor: RemoteRuns = field(init=False)

    def __post_init__(self) -> None:
        self.url = self.url or f"file://{self.folder / 'store'}"
        self.executor = self.restarted()

    @property
    def store(self) -> ObjectRunStore:
        return ObjectRunStore(blobs.by_url(self.url))

    def shipped(self, run: RunDirectory) -> ShippedRun:
        return ShippedRun(self.store, f"runs/{run.path.name}")

    def restarted(self) -> RemoteRuns:
        """The executor of a service that has just started: it remembers nothing."""
        environment = {"LUTHIER_BLOBS_URL": self.url, "LUTHIER_RUNNER_DIR": str(self.folder / "node")}
        launcher = RayJobs(self.ray.address, self.ray.token, self.python, environment, self.terms.stop_grace_s)
        self.ray.clients.append(launcher.close)
        self.executor = RemoteRuns(self.store, launcher, terms=self.terms)
        return self.executor

    def wait_until(self, is_true: Callable[[], Any], limit_s: float = 60.0) -> None:
        deadline = time.monotonic() + limit_s
        while not is_true():
            assert time.monotonic() < deadline, "the condition has not come true"
            time.sleep(0.02)

    def until_gone(self, run: RunDirectory, handle: str, limit_s: float = 60.0) -> None:
        """Follows an attempt as the supervisor does, until it is gone and all of it is read."""

        def followed() -> bool:
            try:
                state = self.executor.look(handle)
                self.executor.sync(run.path, handle)
            except Unavailable:
                return False
            return state is RunState.GONE

        self.wait_until(followed, limit_s)


def verdict(run: RunDirectory) -> Succeeded | Failed | None:
    last = None
    for event, _ in run.tail():
        last = event
    return last if isinstance(last, Succeeded | Failed) else None


def lose(run: RunDirectory) -> None:
    """The supervisor's machine is gone, and with it the directory."""
    shutil.rmtree(run.path)


def node_python(folder: Path, trainer: Path | str) -> str:
    """A program for LUTHIER_NODE_PYTHON whose runner starts `trainer`, a program or a script of Python."""
    program = folder / "trainer-program"
    if isinstance(trainer, Path):
        trainer = f'#!/bin/sh\nexec {sys.executable} {trainer} "$@"\n'
    program.write_text(trainer)
    node = folder / "node-python"
    node.write_text(f'#!/bin/sh\nexec {sys.executable} {SUPPORT / "node_process.py"} {program} "$@"\n')
    for path in (program, node):
        path.chmod(0o755)
    return str(node)


def light_run(path: Path, n_steps: int = 12) -> RunDirectory:
    """A run of `light_trainer.py`, on a base model that has names and no weights."""
    hf = path.parent / "base" / "light" / "hf"
    hf.mkdir(parents=True, exist_ok=True)
    for name in (*model_folder.PROMPT_FILES, model_folder.CONFIG, model_folder.WEIGHTS):
        (hf / name).touch()
    run = RunDirectory(path)
    path.mkdir()
    run.training.write_text('{"messages": []}\n')
    values = {"job_id": path.name, "base_model": "light", "base_folder": hf.parent, "context_tokens": 8, "seed": 1}
    lora = {"rank": 1, "alpha": 1, "targets": ["q"]}
    run.write_spec(
        TrainSpec.model_validate(
            {**values, "n_epochs": n_steps, "batch_size": 1, "learning_rate": 1, "lora": lora, "threads": 1}
        )
    )
    return run


@dataclass
class Absorbed:
    """What a service has read of a run's log: each byte once, as `service/jobs/progress.py` does."""

    run: RunDirectory
    offset: int = 0
    events: list[RunEvent] = field(default_factory=list)
    steps_with_files: set[int] = field(default_factory=set)

    def absorb(self) -> None:
        for event, offset in self.run.tail(self.offset):
            self.offset = offset
            self.events.append(event)
            if isinstance(event, CheckpointSaved | Paused) and (self.run.checkpoints / event.folder).exists():
                assert CheckpointFolder(self.run.checkpoints / event.folder).is_complete
                self.steps_with_files.add(event.step)


def shown(run: RunDirectory) -> list[dict[str, Any]]:
    """The events without clocks; without which steps were saved: after a kill more are."""
    apart = ("at", "seconds", "peak_memory_bytes")
    return [
        {key: value for key, value in event.items() if key not in apart}
        for event in events(run)
        if event["kind"] != "saved"
    ]


def run_through(
    cluster: Cluster, run: RunDirectory, draw: random.Random, kills: int, most_s: float, loses_disk: bool
) -> Absorbed:
    """Follows a run as the supervisor does, to its verdict, while its processes are killed `kills` times; each time
    the supervisor may have been killed with them, and its disk lost.
    """
    absorbed = Absorbed(run)
    for attempt in range(1, kills + 20):
        handle = cluster.executor.start(run.path, attempt)
        deadline = time.monotonic() + draw.uniform(0.3, most_s)
        while verdict(run) is None:
            if attempt <= kills and time.monotonic() > deadline:
                cluster.ray.kill(f"{run.path.name}-{attempt}")
                deadline = float("inf")
                if draw.random() < 0.5:
                    cluster.restarted()
                if loses_disk and draw.random() < 0.5:
                    lose(run)
            try:
                state = cluster.executor.look(handle)
                cluster.executor.sync(run.path, handle)
            except Unavailable:
                continue
            absorbed.absorb()
            if state is RunState.GONE:
                break
            time.sleep(0.02)
        if isinstance(verdict(run), Succeeded):
            cluster.until_gone(run, handle)
            absorbed.absorb()
            return absorbed
    raise AssertionError("no verdict")
