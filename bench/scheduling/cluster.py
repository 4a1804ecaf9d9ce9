"""A simulated cluster behind the executor's port: nodes with room, and trainers that take simulated time."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from luthier.core.states import RunState
from luthier.core.training.executor_port import NONE_RUNNING, ONE_CPU, Ending, NodeRoom, RunNeeds
from luthier.core.training.placement import Rooms
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import CheckpointSaved, Metrics, RunEvent, Started, Succeeded

SHORTEST_S, LONGEST_S = 600.0, 3000.0


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """A run that occupies its node until `ends_at`."""

    run: RunDirectory
    node: str
    needs: RunNeeds
    ends_at: datetime


class SimulatedCluster:
    """Implements the port Executor. A run ends at the first look after its time, with what a trainer has written then.

    `started` calls back with the run's directory; a run for which no node has room is an error of the scheduler.
    """

    outlives_service = True

    def __init__(
        self, nodes: Sequence[NodeRoom], now: Callable[[], datetime], started: Callable[[Path], object], seed: int = 7
    ) -> None:
        self._now, self._started = now, started
        self._chance = random.Random(seed)
        self._room = {node.name: replace(node, holds=RunNeeds(node.cpus, node.gpus)) for node in nodes}
        self._runs: dict[str, SimulatedRun] = {}

    @property
    def busy(self) -> int:
        """How many runs live."""
        return len(self._runs)

    def room(self, running: Mapping[str, RunNeeds] = NONE_RUNNING) -> Sequence[NodeRoom]:
        return list(self._room.values())

    def start(self, run: Path, attempt: int = 1, needs: RunNeeds = ONE_CPU) -> str:
        node = Rooms(self.room()).take(needs)
        assert node is not None, "started where no node has room"
        self._take(node, needs, 1)
        handle = f"{run.name}/{attempt}"
        ends_at = self._now() + timedelta(seconds=self._chance.uniform(SHORTEST_S, LONGEST_S))
        self._runs[handle] = SimulatedRun(RunDirectory(run), node, needs, ends_at)
        at = self._now().timestamp()
        _write(
            RunDirectory(run),
            Started(at=at, n_steps=2, n_examples=10, n_tokens=100, supervised_tokens=40),
            Metrics(at=at + 1, step=1, n_steps=2, train_loss=1.0, train_mean_token_accuracy=0.5),
        )
        self._started(run)
        return handle

    def look(self, handle: str) -> RunState:
        one = self._runs.get(handle)
        if one is None:
            return RunState.GONE
        if self._now() < one.ends_at:
            return RunState.ALIVE
        folder = one.run.checkpoints / "step-000002"
        folder.mkdir(parents=True)
        for name in ("adapter_model.safetensors", "adapter_config.json", "meta.json"):
            (folder / name).write_text(name)
        one.run.results.write_text("step,train_loss\n")
        at = one.ends_at.timestamp()
        _write(
            one.run,
            Metrics(at=at - 1, step=2, n_steps=2, train_loss=0.5, train_mean_token_accuracy=0.9),
            CheckpointSaved(at=at - 1, step=2, epoch=1, folder=folder.name, metrics={"train_loss": 0.5}, dropped=()),
            Succeeded(at=at, trained_tokens=200, seconds=5.0, peak_memory_bytes=1),
        )
        self._take(one.node, one.needs, -1)
        del self._runs[handle]
        return RunState.GONE

    def _take(self, node: str, needs: RunNeeds, sign: int) -> None:
        room = self._room[node]
        cpus, gpus = room.cpus - sign * needs.cpus, room.gpus - sign * needs.gpus
        self._room[node] = replace(room, cpus=cpus, gpus=gpus, busy_runs=room.busy_runs + sign)

    def find(self, run: Path, attempt: int = 1) -> str | None:
        return None

    def sync(self, run: Path, handle: str) -> None:
        """The simulated trainer works in the directory itself."""

    def ending(self, handle: str) -> Ending:
        return Ending()

    def ask_to_stop(self, handle: str) -> None:
        """Nothing is stopped in a simulation."""

    def stop(self, handle: str) -> None:
        """The run has ended before."""

    def kill(self, handle: str) -> None:
        """Nothing is cancelled in a simulation."""

    def discard(self, run: Path) -> None:
        """Nothing is kept elsewhere."""


def _write(run: RunDirectory, *events: RunEvent) -> None:
    """Appends events without waiting for the disk: a trainer on a node of its own does that, not the control plane."""
    with run.events.open("a") as stream:
        stream.writelines(event.model_dump_json(exclude_none=True) + "\n" for event in events)
