"""Time from a free machine to the next job's first step: a real service, the local executor, jobs that wait in turn.

Of each job after the first: seconds from the verdict of the one before it to the claim, to its trainer's start, to the
trainer's first event, and to its first step.
"""

import argparse
import itertools
import os
import sqlite3
import statistics
import tempfile
from functools import partial
from pathlib import Path

from openai import OpenAI

from bench.process import ROOT
from running import KEY, Running
from waiting import until

MODELS = os.environ.get("LUTHIER_MODELS_DIR", str(ROOT / ".cache" / "models"))
ROWS = ROOT / "tests" / "support" / "clippy.jsonl"
SECOND = 1_000_000
"""Times of rows are in microseconds."""
PARTS = ("to the trainer's start", "to its first event", "to its first step")


def main() -> None:
    """Prints a row for each part: median, and each job's seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="luthier-next-start-") as folder:
        running = Running(Path(folder) / "data", Path(MODELS))
        running.start()
        try:
            _run_jobs(running, options.jobs)
        finally:
            running.close()
        measured = _read(running.data / "luthier.db")
    for name, seconds in zip(PARTS, zip(*measured, strict=True), strict=True):
        each = ", ".join(f"{one:.2f}" for one in seconds)
        print(f"from the end of the job before {name}: median {statistics.median(seconds):.2f} s ({each})")


def _run_jobs(running: Running, n_jobs: int) -> None:
    """Creates all jobs at once, and waits until all have succeeded."""
    with OpenAI(base_url=f"{running.url.rstrip('/')}/v1", api_key=KEY) as client:
        file = client.files.create(file=("rows.jsonl", ROWS.read_bytes()), purpose="fine-tune")
        made = [
            client.fine_tuning.jobs.create(
                model="smollm2-135m-instruct",
                training_file=file.id,
                method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
            )
            for _ in range(n_jobs)
        ]
        for job in made:
            until(partial(_has_succeeded, client, job.id), 600)


def _has_succeeded(client: OpenAI, job_id: str) -> bool:
    return client.fine_tuning.jobs.retrieve(job_id).status == "succeeded"


def _read(path: Path) -> list[tuple[float, ...]]:
    """Seconds by part of each job after the first, in the order in which they ran."""
    database = sqlite3.connect(path)
    rows = database.execute(
        "SELECT j.finished_at, a.started_at,"
        " (SELECT min(created_at) FROM events WHERE job_id = j.id AND message LIKE 'Training on %'),"
        " (SELECT min(created_at) FROM events WHERE job_id = j.id AND type = 'metrics')"
        " FROM jobs j JOIN attempts a ON a.job_id = j.id ORDER BY a.started_at"
    ).fetchall()
    database.close()
    return [tuple((at - before[0]) / SECOND for at in row[1:]) for before, row in itertools.pairwise(rows)]


if __name__ == "__main__":
    main()
