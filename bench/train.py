"""`make bench-train`: Luthier's trainer and TRL's on the same rows, adapter, steps and learning rate, in turns.

Each trainer is a process of its own; its steps are timed by itself and its memory by the kernel. A set's trainers run
one after another, and again as often as --repeat says, because a shared machine's speed drifts.
"""

import argparse
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from bench import flops, luthier_run, process, table
from bench import job as jobs
from bench.job import Job
from bench.sets import SETS, Set
from bench.table import Run
from bench.trl_options import BEST, DEFAULT, OPTIONS
from luthier.executors import local

LUTHIER = "luthier"
WITH_ALLOCATOR = "+allocator"
TRAINERS = (DEFAULT, BEST, DEFAULT + WITH_ALLOCATOR, BEST + WITH_ALLOCATOR, LUTHIER)
BEST_OPTION = {"gsm8k": "trl-flat-2", "stock": "trl-flat-2", "long": "trl-single", "shared": "trl-flat-2"}
"""What was fastest of bench/trl_options.py for each set (docs/benchmarks.md); --best takes another."""


def main() -> None:
    options = _parser().parse_args()
    if not (process.TRL_PACKAGES / "trl").is_dir():
        raise SystemExit(f"TRL is not in {process.TRL_PACKAGES}: run `make bench-train`, which brings it.")
    report: dict[str, Any] = {"options": {name: str(value) for name, value in vars(options).items()}, "sets": {}}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name in options.sets:
            job = _make_job(name, SETS[name], Path(folder) / name, options)
            if job is not None:
                report["sets"][name] = _measure_set(job, options)
            if options.json:
                options.json.write_text(json.dumps(report, indent=1))


def _make_job(name: str, rows: Set, folder: Path, options: argparse.Namespace) -> Job | None:
    """Writes what all trainers of a set are given; None where its file is not on this machine."""
    try:
        values = rows.rows(options.data_folder)
    except FileNotFoundError as error:
        print(f"\n{name}: left out, there is no {error.filename}")
        return None
    steps = options.steps or rows.steps
    n_steps = -(-len(values) // rows.batch_size)
    if steps >= n_steps:
        raise SystemExit(f"{name} has {n_steps} steps an epoch: --steps must be smaller, or a checkpoint is timed too.")
    return jobs.write(folder, values, rows.batch_size, steps, options)


def _measure_set(job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """Runs every trainer in turn, prints the set's table, and gives all figures."""
    best = options.best or BEST_OPTION[job.name]
    facts = flops.load(job.facts)
    print(f"\n{job.name}: {SETS[job.name].note}")
    print(
        f"batch {job.batch_size}, {job.steps} steps, {sum(facts.tokens):,} tokens, "
        f"{sum(facts.learned_tokens):,} learned, longest row {facts.longest:,}; {BEST} is {best}",
        flush=True,
    )
    peaks = [_peak(job)]
    runs: dict[str, list[Run]] = {name: [] for name in options.trainers}
    for turn in range(options.repeat):
        for name in options.trainers:
            runs[name].append(_run(job, name, best, turn))
            print(_line(name, runs[name][-1]), flush=True)
        peaks.append(_peak(job))
    speeds = {kind: median(peak[kind] for peak in peaks) for kind in peaks[0]}
    # TRL's defaults learn every token, and packing fills steps with other rows.
    uncomparable = {DEFAULT, DEFAULT + WITH_ALLOCATOR, "trl-packed"}
    reference = BEST if BEST in runs else best
    print(", ".join(f"{kind} {speed / 1e9:.0f} GFLOP/s" for kind, speed in speeds.items()))
    print("\n".join(table.lines(runs, facts, job.lora["rank"], speeds, DEFAULT, reference, uncomparable)), flush=True)
    all_runs = {name: [asdict(run) for run in tries] for name, tries in runs.items()}
    return {"best": best, "facts": asdict(facts), "peaks": peaks, "runs": all_runs}


def _run(job: Job, name: str, best: str, turn: int) -> Run:
    """One trainer once, in a process of its own."""
    folder = job.folder / f"{name}-{turn}"
    if name == LUTHIER:
        result, peak_bytes = luthier_run.measure(job, folder)
        shutil.rmtree(folder)
        return Run(**result, peak_bytes=peak_bytes)
    plain = name.removesuffix(WITH_ALLOCATOR)
    option = best if plain == BEST else plain
    env = process.environment(allocator=local.allocator() if name.endswith(WITH_ALLOCATOR) else None)
    path = folder.with_suffix(".json")
    arguments = ["bench.trl_run", str(job.folder / "job.json"), option, str(path)]
    peak_bytes = process.run(arguments, env, folder.with_suffix(".log"))
    return Run(**json.loads(path.read_text()), peak_bytes=peak_bytes)


def _peak(job: Job) -> dict[str, float]:
    path = job.folder / "peak.json"
    process.run(["bench.peak", str(job.facts), str(path)], process.environment(), job.folder / "peak.log")
    found: dict[str, float] = json.loads(path.read_text())
    return found


def _line(name: str, run: Run) -> str:
    losses = " ".join(f"{loss:.4f}" for loss in run.losses)
    seconds = " ".join(f"{step:.1f}" for step in run.seconds)
    return f"  {name:24} {run.rate:5.0f} tokens/s {run.peak_bytes / 1e9:5.2f} GB | losses {losses} | seconds {seconds}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.train", description=__doc__)
    names = [*OPTIONS, BEST]
    choices = [LUTHIER, *names, *(name + WITH_ALLOCATOR for name in names)]
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS), metavar="SET")
    parser.add_argument("--trainers", nargs="+", choices=choices, default=list(TRAINERS), metavar="TRAINER")
    parser.add_argument("--steps", type=int, help="steps of every set; by default the set's own")
    parser.add_argument("--best", choices=list(OPTIONS), metavar="TRAINER", help=f"what {BEST} stands for in every set")
    parser.add_argument("--repeat", type=int, default=1, help="times each trainer runs; the tables hold medians")
    parser.add_argument("--json", type=Path, help="write every figure there")
    jobs.add_options(parser)
    return parser


if __name__ == "__main__":
    main()
