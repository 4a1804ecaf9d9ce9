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
    "WANDB_DIR": os.path.abspath("."),
}

import wandb  # noqa: E402
from openai import AzureOpenAI, OpenAI  # noqa: E402
from wandb.integration.openai.fine_tuning import WandbLogger  # noqa: E402


def main() -> None:
    clients = {
        "OpenAI": OpenAI(base_url=f"{URL}/v1", api_key=KEY),
        "AzureOpenAI": AzureOpenAI(azure_endpoint=URL, api_key=KEY, api_version=API_VERSION),
    }
    scopes = {}
    for scope, client in clients.items():
        drive = scopes[scope] = Drive()
        file = client.files.create(file=("rows.jsonl", rows()), purpose="fine-tune")
        made = client.fine_tuning.jobs.create(training_file=file.id, validation_file=file.id, model=MODEL)
        job = until(
            lambda client=client, id=made.id: client.fine_tuning.jobs.retrieve(id),
            lambda found: found.status in ("succeeded", "failed"),
        )
        logged: list[dict[str, float]] = []
        for step, more in (("sync without data sets", {"log_datasets": False}), ("sync", {})):
            with drive.step(step):
                really_init = wandb.init

                def init(*args: object, really_init=really_init, **options: object) -> object:
                    run = really_init(*args, **options)
                    log = run.log
                    run.log = lambda row, step=None: (logged.append({**row, "step": step}), log(row, step=step))
                    return run

                wandb.init = init
                try:
                    WandbLogger.sync(job.id, openai_client=client, project="luthier", **more)
                finally:
                    wandb.init = really_init
                    if wandb.run is not None:
                        wandb.run.finish()
        with drive.step("metrics of every step"):
            found = [row for row in logged if "train_loss" in row]
            want([row["step"] for row in found][:4] == [1, 2, 3, 4], found)
        with drive.step("offline run on disk"):
            want(list(Path("wandb").glob(f"offline-run-*-{job.id}/*.wandb")), list(Path("wandb").glob("*")))
    report(metadata.version("wandb"), scopes)


if __name__ == "__main__":
    main()
