"""wandb: WandbLogger.sync of a finished job, offline, and what it wrote down."""

import os
from importlib import metadata
from pathlib import Path

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
            run = wandb.init(project="luthier", id=job.id)
            WandbLogger.sync(job.id, openai_client=client, project="luthier", log_datasets=False)
            want(run.summary["status"] == "succeeded", dict(run.summary))
            want(run.summary["fine_tuned_model"] == job.fine_tuned_model, dict(run.summary))
        with drive.step("metrics of the last step"):
            want((run.summary["train_loss"], run.summary["full_valid_loss"]) == (1.0, 1.2), dict(run.summary))
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
