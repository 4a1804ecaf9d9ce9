"""What each tracker's own reader finds of a job, as JSON. It runs in the trackers' environment.

`read_back.py mlflow URI JOB`, `trackio FOLDER JOB`, `wandb FOLDER JOB`, `tensorboard FOLDER JOB`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

Rows = list[tuple[int, str, float]]


def mlflow(uri: str, job_id: str) -> dict[str, Any]:
    """By MLflow's client."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("luthier")
    [run] = client.search_runs([experiment.experiment_id], f"tags.`luthier.job_id` = '{job_id}'")
    rows = [
        (metric.step, key, metric.value)
        for key in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, key)
    ]
    return {"rows": rows, "params": run.data.params, "status": run.info.status}


def trackio(folder: str, job_id: str) -> dict[str, Any]:
    """By trackio's storage, on which its dashboard rests."""
    os.environ["TRACKIO_DIR"] = folder
    from trackio.sqlite_storage import SQLiteStorage

    [name] = SQLiteStorage.get_runs("luthier")
    logs = SQLiteStorage.get_logs("luthier", name)
    rows = [(row["step"], key, row[key]) for row in logs for key in row if key not in ("step", "timestamp")]
    return {"rows": rows, "params": SQLiteStorage.get_run_config("luthier", name), "name": name}


def wandb(folder: str, job_id: str) -> dict[str, Any]:
    """By `wandb leet inspect`, of the only folder of the run."""
    [path] = Path(folder, "wandb").glob(f"offline-run-*-{job_id}")
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json"]
    told = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True).stdout
    summary = subprocess.run([*command, "--summary", str(path)], capture_output=True, text=True, check=True).stdout
    rows: Rows = []
    runs = []
    for line in told.splitlines():
        record = json.loads(line)
        if record["type"] == "run":
            runs.append(record["run"])
        if record["type"] == "history":
            items = record["history"]["item"]
            rows += [(items["_step"], name, value) for name, value in items.items() if not name.startswith("_")]
    return {"rows": rows, "runs": runs, "summary": json.loads(summary)}


def tensorboard(folder: str, job_id: str) -> dict[str, Any]:
    """By the reader behind TensorBoard's own pages."""
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    read = EventMultiplexer(size_guidance={"scalars": 0, "tensors": 0})
    read.AddRunsFromDirectory(folder).Reload()
    tags = read.Runs()[job_id]["scalars"]
    return {"rows": [(each.step, tag, each.value) for tag in tags for each in read.Scalars(job_id, tag)]}


if __name__ == "__main__":
    kind, where, job = sys.argv[1:]
    readers = {"mlflow": mlflow, "trackio": trackio, "wandb": wandb, "tensorboard": tensorboard}
    print("\n" + json.dumps(readers[kind](where, job)))
