"""`python -m bench.heldout`: the adapters that TRL and Luthier train from one start, on rows that neither has seen.

Equal steps of GSM8K rows at equal settings, then one evaluator for both. A difference of 1% or more is a failure.
"""

import argparse
import json
import tempfile
from pathlib import Path

from bench import job as jobs
from bench import luthier_run, process, train
from bench.job import Job
from bench.sets import SETS
from luthier.executors import local
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Succeeded

NAME = "gsm8k"
VALIDATION = "gsm8k-chat.valid.jsonl"
STEPS = 25
LIMIT = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.heldout", description=__doc__)
    jobs.add_options(parser)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--trl", default=train.BEST_OPTION[NAME], help="which of bench/trl_options.py")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="heldout-") as folder:
        job = _job(Path(folder) / "job", options)
        held_out = options.data_folder / VALIDATION
        start = _evaluate(job, job.adapter, held_out)
        print(f"{job.steps} steps of {job.batch_size} rows; before them: {start:.4f}", flush=True)
        theirs = _evaluate(job, _by_trl(job, options.trl), held_out)
        print(f"{options.trl}: {theirs:.4f}", flush=True)
        ours = _evaluate(job, _by_luthier(job), held_out)
        difference = abs(ours - theirs) / theirs
        print(f"luthier: {ours:.4f}, {difference:.2%} apart", flush=True)
    if difference >= LIMIT:
        raise SystemExit(f"The held-out losses are not within {LIMIT:.0%} of each other.")


def _job(folder: Path, options: argparse.Namespace) -> Job:
    """As many rows as the steps take: a whole epoch to Luthier, so that it ends with a checkpoint."""
    batch_size = SETS[NAME].batch_size
    rows = SETS[NAME].rows(options.data_folder)[: options.steps * batch_size]
    return jobs.write(folder, rows, batch_size, -(-len(rows) // batch_size), options)


def _by_trl(job: Job, option: str) -> Path:
    adapter = job.folder / "by-trl"
    arguments = ["bench.trl_run", str(job.folder / "job.json"), option, str(job.folder / "trl.json"), str(adapter)]
    process.run(arguments, process.environment(allocator=local.allocator()), job.folder / "trl.log")
    return adapter


def _by_luthier(job: Job) -> Path:
    run = luthier_run.write(job, job.folder / "run")
    env = process.environment(allocator=local.allocator())
    process.run(["luthier.trainer", str(run.path)], env, job.folder / "luthier.log")
    return _last_checkpoint(run)


def _last_checkpoint(run: RunDirectory) -> Path:
    *_, (verdict, _) = run.tail()
    if not isinstance(verdict, Succeeded):
        raise SystemExit(f"Luthier's run ended with {verdict.kind}")
    return max(run.checkpoints.iterdir())


def _evaluate(job: Job, adapter: Path, rows: Path) -> float:
    result = adapter / "held-out.json"
    arguments = ["bench.evaluate", str(job.base_folder / "hf"), str(adapter), str(rows), str(result)]
    process.run(arguments, process.environment(), job.folder / "evaluate.log")
    return float(json.loads(result.read_text())["loss"])


if __name__ == "__main__":
    main()
