"""kill -9 of trainers and services at random moments; every job must end in the bytes of an undisturbed run.

    make bench-kills                          100 kills; KILLS=20 SEED=7 for others
    PYTHONPATH=tests/support python -m bench.kills --kills 100 --seed 1 [--json OUT]

Real processes throughout: `luthier serve`, its trainers, its data folder. First each kind of job runs undisturbed;
then jobs of all kinds are trained while a schedule that follows from the seed kills the trainer, the service or both.
Some kills come after a random pause, others as soon as a certain write is seen under way. Exit status 0 means: every
job succeeded, with the same bytes in every file of every checkpoint and in results.csv, and no event told twice.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

import tiny
from bench.kills_outcome import Outcome, outcome_of, same
from bench.kills_target import EMBEDDED, KINDS, Target
from luthier.core.states import JobStatus
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Failed, Metrics, Succeeded

PAUSE_S = 7.0
AIM_S = 8.0
RUN_S = 120.0
AIMED_SHARE = 0.4
ENDING_S = 600.0
OPEN_JOBS = 2
SAME_STEP = 2
"""Kills of a job's trainer at one step; the third in a row ends the job, as it should."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One kill: whom, after which pause, and the write that it waits for, with a delay from when that is seen."""

    victim: str
    pause_s: float
    aim: str | None
    delay_s: float


@dataclass(frozen=True, slots=True)
class Kill:
    """What a kill hit."""

    plan: Plan
    at_s: float
    job: str
    phase: str


AIMS: dict[str, Callable[[RunDirectory], object]] = {
    "a checkpoint being written": lambda run: any(run.checkpoints.glob(".step-*.tmp")),
    "a resume point being saved": lambda run: any(run.resume.glob(".*.tmp")),
    "an event being appended": lambda run: _size(run.events),
    "a results row being written": lambda run: _size(run.results),
    "a checkpoint being stored": lambda run: len(list((run.path.parent.parent / "blobs").glob("checkpoints/*/*"))),
}
"""What shows that a write is under way: the kill follows when the value changes to something."""

STORING = "a checkpoint being stored"


def schedule(kills: int, seed: int) -> list[Plan]:
    """The kills in order; the same for the same seed."""
    chance = random.Random(seed)
    plans = []
    for _ in range(kills):
        aim = chance.choice(list(AIMS)) if chance.random() < AIMED_SHARE else None
        victims = ("service", "both") if aim == STORING else ("trainer", "trainer", "service", "both")
        plans.append(
            Plan(chance.choice(victims), chance.uniform(0, PAUSE_S), aim, chance.choice((0.0, chance.uniform(0, 0.03))))
        )
    return plans


class Campaign:
    """The kills of a schedule, on jobs that are made as they are needed."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.jobs: dict[str, str] = {}
        self.kills: list[Kill] = []
        self._began = time.monotonic()
        self._killed_at: tuple[str, int, int] = ("", 0, 0)

    def refill(self) -> None:
        """Keeps some jobs open, of each kind in turn."""
        kinds = list(KINDS)
        while len(self.target.open_jobs()) < OPEN_JOBS:
            kind = kinds[len(self.jobs) % len(kinds)]
            self.jobs[self.target.create(KINDS[kind])] = kind

    def strike(self, plan: Plan) -> None:
        """Waits as planned, kills, and starts the service again if it was killed."""
        time.sleep(plan.pause_s)
        run, trainer = self._ready(plan)
        if plan.aim:
            self._await(AIMS[plan.aim], run, plan.delay_s)
        while not _is_alive(trainer):
            run, trainer = self._ready(plan)
        step = _last_step(run)
        phase = _phase(run, step, trainer)
        if plan.victim != "trainer":
            self.target.kill_service()
        if plan.victim != "service":
            with suppress(psutil.NoSuchProcess):
                trainer.kill()
                trainer.wait()
            step = _last_step(run)  # it may have come further since we looked
            job, at, count = self._killed_at
            self._killed_at = (run.path.name, step, count + 1 if (job, at) == (run.path.name, step) else 1)
        self.kills.append(
            Kill(plan, round(time.monotonic() - self._began, 1), self.jobs.get(run.path.name, "-"), phase)
        )
        self._tell(self.kills[-1])
        if plan.victim != "trainer":
            self.target.start_service()

    def _tell(self, kill: Kill) -> None:
        aimed = f" (aimed at {kill.plan.aim})" if kill.plan.aim else ""
        text = f"{len(self.kills):4} {kill.at_s:6.1f} s  {kill.plan.victim:8} {kill.job:12} {kill.phase}{aimed}"
        print(text, flush=True)

    def _ready(self, plan: Plan) -> tuple[RunDirectory, psutil.Process]:
        """The run at hand and its trainer, once a kill of it would not be the third at the same step."""
        deadline = time.monotonic() + RUN_S
        while time.monotonic() < deadline:
            for run, trainer in self.target.trainers():
                job, step, count = self._killed_at
                if plan.victim == "service" or count < SAME_STEP or (job, step) != (run.path.name, _last_step(run)):
                    return run, trainer
            self.refill()
            time.sleep(0.1)
        raise TimeoutError("no run goes on: look at service.log and the trainer.log of the run")

    def _await(self, sign: Callable[[RunDirectory], object], run: RunDirectory, delay_s: float) -> None:
        before, deadline = sign(run), time.monotonic() + AIM_S
        while time.monotonic() < deadline:
            now = sign(run)
            if now and now != before:
                time.sleep(delay_s)
                return
            before = now
            time.sleep(0.0005)


def _phase(run: RunDirectory, step: int, trainer: psutil.Process) -> str:
    """What the trainer is doing, by what its run directory shows."""
    if any(run.checkpoints.glob(".step-*.tmp")):
        return "writing a checkpoint"
    if any(run.resume.glob(".*.tmp")):
        return "saving a resume point"
    if any(isinstance(event, Succeeded | Failed) for event, _ in run.tail()):
        return "after the verdict"
    if not run.events.exists() or run.events.stat().st_mtime < trainer.create_time():
        return "starting, or repeating steps after the save" if step else "starting"
    return "training" if step else "reading its files"


def _is_alive(process: psutil.Process) -> bool:
    try:
        is_alive: bool = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return is_alive
    except psutil.NoSuchProcess:
        return False


def _last_step(run: RunDirectory) -> int:
    return max((event.step for event, _ in run.tail() if isinstance(event, Metrics)), default=0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def campaign(target: Target, plans: list[Plan]) -> tuple[Campaign, list[str]]:
    """Undisturbed runs, the kills, and what is wrong with what the jobs ended in."""
    calm: dict[str, Outcome] = {}
    for name, kind in KINDS.items():
        began = time.monotonic()
        job = target.create(kind)
        target.wait_for_all(ENDING_S)
        calm[name] = outcome_of(target, job)
        print(
            f"undisturbed {name}: {calm[name].status}, {len(calm[name].files)} files, {time.monotonic() - began:.0f} s"
        )
    made = Campaign(target)
    for plan in plans:
        made.refill()
        made.strike(plan)
    target.wait_for_all(ENDING_S)
    wrong = [f"undisturbed {name}: {told.status}" for name, told in calm.items() if told.status != JobStatus.SUCCEEDED]
    for job, name in made.jobs.items():
        wrong += [f"{job} ({name}): {problem}" for problem in same(outcome_of(target, job), calm[name])]
    return made, wrong


def report(made: Campaign, wrong: list[str], seed: int) -> dict[str, object]:
    """Everything in figures, printed and returned."""
    victims = Counter({"both": "trainer and service"}.get(kill.plan.victim, kill.plan.victim) for kill in made.kills)
    phases = Counter(kill.phase for kill in made.kills)
    kinds = Counter(made.jobs.values())
    for title, counts in (("kills", victims), ("moments", phases), ("jobs", kinds)):
        print(f"{title}: " + ", ".join(f"{count} {name}" for name, count in counts.most_common()))
    for problem in wrong:
        print(f"WRONG {problem}")
    outcome = "NOT EQUAL" if wrong else "all succeeded with the bytes of an undisturbed run"
    print(f"verdict: {len(made.kills)} kills over {len(made.jobs)} jobs (seed {seed}): {outcome}")
    return {
        "seed": seed,
        "kills": [asdict(kill) for kill in made.kills],
        "by_victim": victims,
        "by_phase": phases,
        "jobs": kinds,
        "wrong": wrong,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", type=Path, default=Path(os.environ.get("LUTHIER_MODELS_DIR", ".cache/models")))
    parser.add_argument("--nice", type=int, default=5, help="how far to stand back behind the machine's other work")
    parser.add_argument("--json", type=Path, metavar="OUT")
    given = parser.parse_args()
    if not (given.models / EMBEDDED / "prepared.json").exists():
        parser.error(f"the embedded base model is not in {given.models}: run `make model`")
    os.nice(given.nice)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the service and its trainer are ended then, too
    folder = Path(tempfile.mkdtemp(prefix="luthier-kills-"))
    print(f"seed {given.seed}, {given.kills} kills, data in {folder}", flush=True)
    target = Target(folder, given.models.absolute(), tiny.base_folder(folder / "source") / "hf")
    began = time.monotonic()
    try:
        target.prepare()
        made, wrong = campaign(target, schedule(given.kills, given.seed))
    finally:
        target.close()
    figures = report(made, wrong, given.seed) | {"seconds": round(time.monotonic() - began)}
    print(f"{figures['seconds']} s in all")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))
    if not wrong:
        shutil.rmtree(folder)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
