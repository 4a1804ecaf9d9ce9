"""`make bench-dpo`: Luthier and TRL's DPOTrainer on the same preference pairs, adapter, order, rate and steps.

Each is a process of its own, measured from its start to its end, reference included wherever it computes it: time by
the clock, and the time that the processor gave it, which says more on a machine that others use too. Then rewards of
held-out pairs by plain transformers and PEFT.
"""

import argparse
import itertools
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import process
from bench.job import MODEL
from luthier import catalog
from luthier.core.states import Method
from luthier.core.training.hyperparameters import DPO_RATE
from luthier.executors import local
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Failed, Metrics
from luthier.run_directory.train_spec import TrainSpec

LUTHIER = "luthier"
TRAIN_SHARE = 0.8
_NO_CHECKPOINTING = {"gradient_checkpointing": False}
TRL_OPTIONS: dict[str, dict[str, Any]] = {
    "trl": {},
    "trl-best": {**_NO_CHECKPOINTING, "dtype": "bfloat16", "precompute_ref_log_probs": True},
    "trl-best-2": {**_NO_CHECKPOINTING, "dtype": "bfloat16", "precompute_ref_log_probs": True, "together": 2},
    "trl-best-1": {**_NO_CHECKPOINTING, "dtype": "bfloat16", "precompute_ref_log_probs": True, "together": 1},
}
"""TRL's defaults, and what may be fast on a processor; its padding_free is switched off in DPOTrainer 1.16."""


def main() -> None:
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-dpo-") as folder:
        job = _prepare(Path(folder), options)
        print(
            f"{job['n_train']} pairs to train on, {job['n_held']} held out; {job['tokens']:,} tokens a pass", flush=True
        )
        print(_rewards(job, None, "before"), flush=True)
        for name in options.trainers:
            result = _luthier(job) if name == LUTHIER else _trl(job, name)
            print(_line(name, result, job), flush=True)
            print(_rewards(job, Path(result["adapter"]), name), flush=True)


def _prepare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Writes what every trainer is given alike, and gives its description."""
    entry = catalog.load().entries[MODEL]
    assert entry.lora is not None, f"{MODEL} is tuned by an adapter"
    job: dict[str, Any] = {
        "folder": str(folder),
        "rows": str(options.data_folder / "orca-dpo.valid.jsonl"),
        "base_folder": str(options.models_folder / MODEL),
        "max_tokens": options.max_tokens,
        "train_share": TRAIN_SHARE,
        "context_tokens": entry.context_tokens,
        "batch_size": options.batch_size,
        "epochs": options.epochs,
        "pairs": options.pairs,
        "held": options.held,
        "seed": options.seed,
        "beta": options.beta,
        "learning_rate": entry.learning_rate * DPO_RATE * options.multiplier,
        "lora": entry.lora.model_dump(mode="json"),
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    process.run(["bench.dpo_work", "prepare", str(path)], process.environment(), folder / "prepare.log")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _luthier(job: Mapping[str, Any]) -> dict[str, Any]:
    run = RunDirectory(Path(job["folder"]) / LUTHIER)
    run.path.mkdir()
    shutil.copy(Path(job["folder"]) / "train.jsonl", run.training)
    shutil.copytree(Path(job["folder"]) / "adapter", run.parent)
    run.write_spec(
        TrainSpec.model_validate(
            {name: job[name] for name in ("base_folder", "context_tokens", "batch_size", "seed", "beta", "lora")}
            | {"job_id": "bench", "base_model": MODEL, "continued": True, "method": Method.DPO}
            | {"n_epochs": job["epochs"], "learning_rate": job["learning_rate"]}
        )
    )
    env = process.environment(allocator=local.allocator())
    cost = _measured(["luthier.trainer", str(run.path)], env, run.path / "process.log")
    told = [event for event, _ in run.tail()]
    if isinstance(told[-1], Failed):
        raise SystemExit(f"the run failed: {told[-1].message}")
    steps = [event for event in told if isinstance(event, Metrics)]
    return cost | {
        "losses": [step.train_loss for step in steps],
        "seconds": [step.seconds for step in steps],
        "adapter": str(max(run.checkpoints.glob("step-*"))),
    }


def _trl(job: Mapping[str, Any], name: str) -> dict[str, Any]:
    folder = Path(job["folder"])
    path = folder / f"{name}.json"
    path.write_text(json.dumps(TRL_OPTIONS[name]))
    arguments = ["bench.dpo_work", "trl", str(folder / "job.json"), str(path), str(folder / name)]
    cost = _measured(arguments, process.environment(), folder / f"{name}.log")
    told = json.loads(path.read_text())
    times = [end - start for start, end in itertools.pairwise(told["times"])]
    return cost | {
        "losses": told["losses"],
        "seconds": times,
        "adapter": str(folder / name),
    }


def _measured(arguments: list[str], env: Mapping[str, str], log: Path) -> dict[str, Any]:
    """What a process took: seconds by the clock, seconds of processor, peak bytes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    peak = process.run(arguments, env, log)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"whole": time.monotonic() - began, "processor": processor, "peak": peak}


def _rewards(job: Mapping[str, Any], adapter: Path | None, name: str) -> str:
    folder = Path(job["folder"])
    path = folder / "rewards.json"
    arguments = ["bench.dpo_work", "evaluate", str(folder / "job.json"), str(adapter or folder / "adapter"), str(path)]
    process.run(arguments, process.environment(), folder / "evaluate.log")
    told = json.loads(path.read_text())
    return (
        f"  {name:12} held-out pairs: reward accuracy {told['accuracy']:.3f}, margin {told['margin']:+.4f}, "
        f"loss {told['loss']:.4f}"
    )


def _line(name: str, result: Mapping[str, Any], job: Mapping[str, Any]) -> str:
    losses = " ".join(f"{loss:.4f}" for loss in result["losses"][:4] + result["losses"][-2:])
    return (
        f"  {name:12} whole {result['whole']:6.1f} s, processor {result['processor']:6.1f} s, "
        f"steps {sum(result['seconds']):6.1f} s, "
        f"peak {result['peak'] / 1e9:.2f} GB | {len(result['losses'])} losses {losses}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.dpo", description=__doc__)
    names = [*TRL_OPTIONS, LUTHIER]
    parser.add_argument("--trainers", nargs="+", choices=names, default=names, metavar="TRAINER")
    parser.add_argument("--pairs", type=int, help="train on so many; by default on four fifths of the file")
    parser.add_argument("--held", type=int, help="hold out so many of the last fifth; by default all")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=300, help="longer pairs are left out, by their longer side")
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--multiplier", type=float, default=1.0, help="of the learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data-folder", type=Path, default=process.ROOT.parent / "shared" / "data")
    parser.add_argument("--models-folder", type=Path, default=process.ROOT / ".cache" / "models")
    return parser


if __name__ == "__main__":
    main()
