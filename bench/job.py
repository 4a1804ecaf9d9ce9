"""What every trainer of a measurement is given alike: a folder with rows, tokens, first adapter and settings."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import process
from luthier import catalog

MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True, slots=True)
class Job:
    """`steps` are run; the learning rate's schedule is that of `n_steps`, the whole epoch."""

    name: str
    folder: Path
    base_model: str
    base_folder: Path
    context_tokens: int
    batch_size: int
    steps: int
    n_steps: int
    seed: int
    learning_rate: float
    lora: Mapping[str, Any]

    @property
    def rows(self) -> Path:
        """All rows in the file's order, as users give them to Luthier."""
        return self.folder / "train.jsonl"

    @property
    def taken(self) -> Path:
        """The rows of the steps in the order of the steps: `messages`, `input_ids`, `labels` (-100: not learned)."""
        return self.folder / "taken.jsonl"

    @property
    def adapter(self) -> Path:
        """The adapter that every trainer starts from."""
        return self.folder / "adapter"

    @property
    def facts(self) -> Path:
        """Counts of what the steps hold, and the model's sizes: what `flops` needs."""
        return self.folder / "facts.json"

    def save(self) -> Path:
        path = self.folder / "job.json"
        path.write_text(json.dumps(asdict(self), default=str, indent=2))
        return path


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `write`, and where the real rows lie."""
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data-folder", type=Path, default=process.ROOT.parent / "shared" / "data")
    parser.add_argument("--models-folder", type=Path, default=process.ROOT / ".cache" / "models")


def write(
    folder: Path, rows: Sequence[Mapping[str, Any]], batch_size: int, steps: int, options: argparse.Namespace
) -> Job:
    """Makes the folder: rows, tokens of the steps, first adapter, counts. Shape and learning rate are the catalog's."""
    folder.mkdir(parents=True)
    entry = catalog.load().entries[MODEL]
    assert entry.lora is not None
    job = Job(
        name=folder.name,
        folder=folder,
        base_model=MODEL,
        base_folder=options.models_folder / MODEL,
        context_tokens=entry.context_tokens,
        batch_size=batch_size,
        steps=steps,
        n_steps=-(-len(rows) // batch_size),
        seed=options.seed,
        learning_rate=entry.learning_rate,
        lora=entry.lora.model_dump(mode="json"),
    )
    job.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))
    process.run(["bench.prepare", str(job.save())], process.environment(), folder / "prepare.log")
    return job


def load(path: Path) -> Job:
    value = json.loads(path.read_text())
    return Job(**value | {"folder": Path(value["folder"]), "base_folder": Path(value["base_folder"])})


def read_taken(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in job.taken.read_text().splitlines()]
