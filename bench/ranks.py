"""`make bench-ranks`: one job by 1, 2 and 4 ranks with the same threads in total: losses, bytes, tokens a second.

Each run is a trainer of its own, twice per number of ranks. On one machine ranks share its cores and memory, so this
measures what they cost; what they gain needs machines, or GPUs, of their own.
"""

import argparse
import hashlib
import json
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import tiny
from bench import process
from luthier.executors import local
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Failed, Metrics
from luthier.run_directory.train_spec import LoraRecipe, TrainSpec
from training import WORDS

EMBEDDED = "smollm2-135m-instruct"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
COLUMNS = (
    "model", "ranks", "threads of each", "tokens/s", "of each rank", "median step", "loss off by", "same bytes twice",
    "gradient sent by a rank per step",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """One run: per step the loss, the tokens and the seconds; a hash of its outputs; bytes of the trained weights."""

    losses: Sequence[float]
    tokens: Sequence[int]
    seconds: Sequence[float]
    sha256: str
    gradient_bytes: int

    @property
    def rate(self) -> float:
        """Tokens a second of the median step; the first, which warms up, is left out."""
        rates = [tokens / seconds for tokens, seconds in zip(self.tokens, self.seconds, strict=True)]
        return median(rates[1:] or rates)


def main() -> None:
    options = _parser().parse_args()
    report: dict[str, list[list[dict[str, object]]]] = {}
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    with tempfile.TemporaryDirectory(prefix="bench-ranks-") as folder:
        for name in options.models:
            base = tiny.base_folder(Path(folder) / "base") if name == "tiny" else options.models_folder / name
            runs = {n: _twice(Path(folder) / f"{name}-{n}", base, n, options) for n in options.ranks}
            for n, (first, again) in runs.items():
                reference = runs[options.ranks[0]][0]
                print(row(name, n, max(1, options.threads // n), first, again, reference), flush=True)
            report[name] = [[asdict(run) for run in tries] for tries in runs.values()]
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def row(name: str, ranks: int, threads: int, first: Run, again: Run, reference: Run) -> str:
    """A line of the table; losses are compared with those of `reference`, the largest relative difference is shown."""
    pairs = zip(first.losses, reference.losses, strict=True)
    rate = max(first.rate, again.rate)
    sent = first.gradient_bytes * (ranks - 1)
    cells = [
        name,
        str(ranks),
        str(threads),
        f"{rate:,.0f}",
        f"{rate / ranks:,.0f}",
        f"{median(list(first.seconds)[1:] or first.seconds):.2f} s",
        "" if first is reference else f"{max(abs(one - other) / other for one, other in pairs):.1e}",
        "yes" if first.sha256 == again.sha256 else "NO",
        f"{sent / 1e6:.2f} MB" if sent else "",
    ]
    return f"| {' | '.join(cells)} |"


def _twice(folder: Path, base: Path, ranks: int, options: argparse.Namespace) -> tuple[Run, Run]:
    """The same run two times."""
    one, other = (_run(folder.with_name(f"{folder.name}-{turn}"), base, ranks, options) for turn in (1, 2))
    return one, other


def _run(folder: Path, base: Path, ranks: int, options: argparse.Namespace) -> Run:
    """One run by its own trainer, from its first step to its last."""
    run = RunDirectory(folder)
    run.path.mkdir()
    run.training.write_bytes(_rows(options.steps * options.batch_size))
    run.write_spec(
        TrainSpec(
            job_id="bench",
            base_model=base.name,
            base_folder=base.absolute(),
            context_tokens=512,
            seed=1,
            n_epochs=1,
            batch_size=options.batch_size,
            learning_rate=1e-3,
            lora=LoraRecipe(rank=16, alpha=32, targets=TARGETS),
            threads=max(1, options.threads // ranks),
            ranks=ranks,
            shard_base=options.shard_base and ranks > 1,
        )
    )
    env = process.environment(allocator=local.allocator())
    process.run(["luthier.trainer", str(folder)], env, folder.with_suffix(".log"))
    events = [event for event, _ in run.tail()]
    if failed := [event for event in events if isinstance(event, Failed)]:
        raise SystemExit(f"the run failed: {failed[0].message}")
    steps = [event for event in events if isinstance(event, Metrics)]
    (adapter,) = run.checkpoints.glob("*/adapter_model.safetensors")
    return Run(
        [step.train_loss for step in steps],
        [step.tokens or 0 for step in steps],
        [step.seconds or 0.0 for step in steps],
        hashlib.sha256(run.results.read_bytes() + adapter.read_bytes()).hexdigest(),
        adapter.stat().st_size,  # float32, as gradients are, and a header
    )


def _rows(n_rows: int) -> bytes:
    """Chats of 40 to 180 words that differ in length, as real ones do; always the same."""
    draw = random.Random(1)
    rows = []
    for _ in range(n_rows):
        question, answer = (" ".join(draw.choices(WORDS, k=draw.randrange(20, 90))) for _ in range(2))
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        rows.append(json.dumps({"messages": turns}))
    return "\n".join(rows).encode()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.ranks", description=__doc__)
    folder = Path(os.environ.get("LUTHIER_MODELS_DIR", ".cache/models"))
    parser.add_argument("--models", nargs="+", default=["tiny", EMBEDDED], help="tiny, or names of pulled base models")
    parser.add_argument("--models-folder", type=Path, default=folder)
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="in total, for all ranks")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--shard-base", action="store_true", help="FSDP2 with more than one rank")
    parser.add_argument("--json", type=Path, help="write every figure there")
    return parser


if __name__ == "__main__":
    main()
