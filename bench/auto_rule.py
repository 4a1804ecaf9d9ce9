"""`make bench-auto`: held-out loss over sizes of a set and settings, by the real trainer: what "auto" rests on.

Each setting is a run of its own to the end of its own schedule: the rate falls in a straight line over a run, so
what a run of eight epochs shows after its second is not what a run of two would reach. Only a run's last epoch is read
as its setting's figure; the earlier ones show where overfitting begins. Finished settings stand in the results file and
are not run again; a run that is cut off goes on where it was.
"""

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import auto_table, process, sets
from luthier import catalog
from luthier.core.states import Method
from luthier.core.training.hyperparameters import ResolvedHyperparameters
from luthier.executors import local
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Failed, Metrics, Succeeded
from luthier.service.jobs import train_specs

MODEL = "smollm2-135m-instruct"
HELD_OUT = 32
WATCH_S = 0.1
LEFT = 2
"""Exit status where --units ended the campaign before its last setting."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One run: the first `rows` rows of a set, and what is asked of the trainer."""

    data: str
    rows: int
    batch_size: int
    n_epochs: int
    multiplier: float
    seed: int = 1

    @property
    def name(self) -> str:
        return f"{self.data}-{self.rows}-b{self.batch_size}-e{self.n_epochs}-m{self.multiplier:g}-s{self.seed}"


def main() -> None:
    options = _parser().parse_args()
    known = {row["name"] for row in auto_table.read(options.results)}
    left = [setting for setting in _settings(options.settings) if setting.name not in known]
    units = options.units
    for setting in left:
        while units != 0:
            units -= 1
            row = _unit(setting, options)
            if row is not None:
                with options.results.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
                print(auto_table.line(row), flush=True)
                break
        else:
            sys.exit(LEFT)
    print("\n".join(auto_table.lines(auto_table.read(options.results))))


def _settings(path: Path) -> Iterator[Setting]:
    """The campaign, a line a setting: data, rows, batch_size, n_epochs, multiplier and perhaps a seed."""
    for line in path.read_text().splitlines():
        words = line.partition("#")[0].split()
        if words:
            data, rows, batch_size, n_epochs, multiplier, *seed = words
            yield Setting(data, int(rows), int(batch_size), int(n_epochs), float(multiplier), *map(int, seed))


def _unit(setting: Setting, options: argparse.Namespace) -> dict[str, Any] | None:
    """Trains for at most --unit-seconds; the setting's row once its run has ended, None before."""
    run = RunDirectory(options.folder / setting.name)
    if not run.spec.exists():
        _write(run, setting, options)
    arguments = ["luthier.trainer", str(run.path)]
    env = process.environment(allocator=local.allocator())

    process.run(arguments, env, run.log, functools.partial(_watch, options.unit_seconds))
    events = [event for event, _ in run.tail()]
    verdict = events[-1]
    if not isinstance(verdict, Succeeded | Failed):
        return None
    steps = [event for event in events if isinstance(event, Metrics)]
    ends = [event for event in steps if event.full_valid_loss is not None]
    per_epoch = -(-setting.rows // setting.batch_size)
    row = {
        "name": setting.name,
        **asdict(setting),
        "verdict": verdict.kind,
        "held_out": [event.full_valid_loss for event in ends],
        "accuracy": [event.full_valid_mean_token_accuracy for event in ends],
        "training": [_mean(steps[start : start + per_epoch]) for start in range(0, len(steps), per_epoch)],
        "steps": len(steps),
        "seconds": sum(event.seconds or 0 for event in steps),
        "tokens": sum(event.tokens or 0 for event in steps),
    }
    shutil.rmtree(run.path)
    return row


def _watch(seconds: float, child: subprocess.Popen[bytes]) -> None:
    """Asks the trainer to save and leave once the seconds are over."""
    end = time.monotonic() + seconds
    while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > end:
            child.terminate()
            return
        time.sleep(WATCH_S)


def _mean(steps: list[Metrics]) -> float:
    """The mean loss of an epoch over its learned tokens."""
    tokens = sum(step.supervised_tokens or 0 for step in steps)
    return sum(step.train_loss * (step.supervised_tokens or 0) for step in steps) / tokens


def _write(run: RunDirectory, setting: Setting, options: argparse.Namespace) -> None:
    shutil.rmtree(run.path, ignore_errors=True)
    run.path.mkdir(parents=True)
    training, held_out = sets.apart(setting.data, options.data_folder, HELD_OUT)
    if len(training) < setting.rows:
        raise SystemExit(f"{setting.name}: the set has {len(training)} rows.")
    for path, rows in ((run.training, training[: setting.rows]), (run.validation, held_out)):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    entry = catalog.load().entries[MODEL]
    chosen = ResolvedHyperparameters(setting.n_epochs, setting.batch_size, setting.multiplier, None, Method.SUPERVISED)
    folder = options.models_folder / MODEL
    run.write_spec(
        train_specs.make_spec(
            entry, folder, chosen, job_id="bench", seed=setting.seed, has_validation=True, threads=options.threads
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.auto_rule", description=__doc__)
    parser.add_argument("--settings", type=Path, default=Path(__file__).with_name("auto_rule.txt"))
    parser.add_argument("--results", type=Path, default=process.ROOT / ".cache" / "auto_rule.jsonl")
    parser.add_argument("--folder", type=Path, default=process.ROOT / ".cache" / "auto_rule", help="where runs lie")
    parser.add_argument("--units", type=int, default=-1, help="leave after so many trainer processes")
    parser.add_argument("--unit-seconds", type=float, default=180.0, help="cut a run off after so long; it goes on")
    parser.add_argument("--threads", type=int, help="CPU threads of the trainer; by default one a core")
    parser.add_argument("--data-folder", type=Path, default=process.ROOT.parent / "shared" / "data")
    parser.add_argument("--models-folder", type=Path, default=process.ROOT / ".cache" / "models")
    return parser


if __name__ == "__main__":
    main()
