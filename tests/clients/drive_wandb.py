"""wandb: WandbLogger.sync of a finished job, offline, and what it wrote down."""

import os
from importlib import metadata
from pathlib import Path
from typing import Any

from drive import API_VERSION, KEY, MODEL, URL, Drive, report, rows, until
from drive import wanted as want

os.environ |= {
    "WANDB_MODE": "offline",
    "WANDB_API_KEY": "0" * 40,
    "WANDB_BASE_URL": "http://127.0.0.1:9",
    "WANDB_HTTP_TIMEOUT": "1",
    "WANDB_DIR": str(Path.cwd()),
}

import wandb
from openai import AzureOpenAI, OpenAI
from wandb.integration.openai.fine_tuning import WandbLogger


def synced(client: OpenAI, job_id: str) -> list[tuple[int | None, dict[str, Any]]]:
    """The rows that a sync logs, with their steps."""
    rows_logged: list[tuple[int | None, dict[str, Any]]] = []
    run = wandb.init(project="luthier", id=job_id)
    really_log = run.log

    def log(row: dict[str, Any], step: int | None = None) -> None:
        rows_logged.append((step, row))
        really_log(row, step=step)

    run.log = log
    WandbLogger.sync(job_id, openai_client=client, project="luthier", log_datasets=False)
    return rows_logged


def main() -> None:
    clients = {
        "OpenAI": OpenAI(base_url=f"{URL}/v1", api_key=KEY),
        "AzureOpenAI": AzureOpenAI(azure_endpoint=URL, api_key=KEY, api_version=API_VERSION),
    }
    WandbLogger._logged_in = True  # it asks its service whether the key is good, offline too
    scopes = {}
    for scope, client in clients.items():
        drive = scopes[scope] = Drive()
        file = client.files.create(file=("rows.jsonl", rows()), purpose="fine-tune")
        made = client.fine_tuning.jobs.create(training_file=file.id, validation_file=file.id, model=MODEL)
        job = until(
            lambda client=client, id=made.id: client.fine_tuning.jobs.retrieve(id),
            lambda found: found.status in ("succeeded", "failed"),
        )
        with drive.step("sync without data sets"):
            logged = synced(client, job.id)
        with drive.step("metrics of every step"):
            losses = [(step, row["train_loss"], row.get("full_valid_loss")) for step, row in logged]
            want(losses == [(1, 2.5, None), (2, 2.0, 2.2), (3, 1.5, None), (4, 1.0, 1.2)], losses)
        with drive.step("sync"):
            try:
                WandbLogger.sync(job.id, openai_client=client, project="luthier", overwrite=True)
            finally:
                if wandb.run is not None:
                    wandb.run.finish()
        with drive.step("offline run on disk"):
            want(list(Path("wandb").glob(f"offline-run-*-{job.id}/*.wandb")), list(Path("wandb").glob("*")))
    report(metadata.version("wandb"), scopes)


if __name__ == "__main__":
    main()
