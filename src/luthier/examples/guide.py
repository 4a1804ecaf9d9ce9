"""The workflow of Microsoft's fine-tuning guide, with the unmodified openai SDK, against Luthier.

Only the endpoint and the key differ from code that was written for Azure OpenAI:

    export AZURE_OPENAI_ENDPOINT=http://127.0.0.1:8000
    export AZURE_OPENAI_API_KEY=...            # `luthier serve` prints both lines
    python -m luthier.examples.guide

It uploads a training and a validation file, fine-tunes a model on them, shows its events, checkpoints and results file,
deploys the base model and the fine-tuned one, and asks both the same questions.
"""

import os
import time
from pathlib import Path
from typing import Any

import httpx2
from openai import AzureOpenAI
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

HERE = Path(__file__).parent
TRAINING = HERE / "clippy-training.jsonl"
VALIDATION = HERE / "clippy-validation.jsonl"
MODEL = "gpt-35-turbo-0125"  # the guide's name; the job's first event says which base model it is here
SYSTEM = "Clippy is a factual chatbot that is also sarcastic."
QUESTIONS = ("What is the largest planet?", "Who painted the Mona Lisa?")
API_VERSION = "2024-10-21"
DEPLOYMENTS = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/luthier"
    "/providers/Microsoft.CognitiveServices/accounts/luthier/deployments"
)
screen = Console(soft_wrap=True, highlight=False)


def run(endpoint: str, api_key: str, output: Path) -> str:
    """Runs the workflow against a service; the results file goes into the folder `output`. Returns the job's id.

    Leaves files, a job and two deployments there. Raises SystemExit if the job or a deployment fails, and the errors of
    openai and httpx2.
    """
    client = AzureOpenAI(azure_endpoint=endpoint, api_key=api_key, api_version=API_VERSION)
    heading("Upload the training and validation data")
    training_file_id = upload(client, TRAINING)
    validation_file_id = upload(client, VALIDATION)

    heading("Create a customized model")
    job = client.fine_tuning.jobs.create(
        training_file=training_file_id,
        validation_file=validation_file_id,
        model=MODEL,
        seed=105,  # the same seed and parameters give the same model, to the byte
        suffix="clippy",
    )
    screen.print(f"job {job.id}, status {job.status}")
    job = watch(client, job.id)

    heading("Checkpoints")
    show_checkpoints(client, job.id)

    heading("Analyze: the results file")
    results = client.files.retrieve(job.result_files[0])
    path = output / results.filename
    path.write_bytes(client.files.content(results.id).read())
    lines = path.read_text().splitlines()
    for line in [*lines[:4], "...", *lines[-2:]]:
        screen.print(line)

    heading("Deploy: Succeeded means that the served model is proven to be the trained one")
    deploy(endpoint, api_key, "clippy-base", job.model)
    deploy(endpoint, api_key, "clippy", job.fine_tuned_model)

    heading("Use: the base model and the fine-tuned model")
    compare(client, "clippy-base", "clippy")
    return str(job.id)


def upload(client: AzureOpenAI, path: Path) -> str:
    """Uploads a file with a progress bar; returns its id."""
    with Progress(console=screen) as progress, progress.open(path, "rb", description=path.name) as stream:
        file = client.files.create(file=(path.name, stream), purpose="fine-tune")
    screen.print(f"{path.name}: {file.id}, {file.bytes} bytes, {file.status}")
    return file.id


def watch(client: AzureOpenAI, job_id: str) -> Any:
    """Prints the job's events as they come, draws a bar over its steps, and returns the succeeded job.

    Asks once a second. Raises SystemExit if it has failed or was cancelled.
    """
    seen: set[str] = set()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen) as progress:
        bar = progress.add_task("waiting", total=None)
        while True:
            job = client.fine_tuning.jobs.retrieve(job_id)
            events = list(client.fine_tuning.jobs.list_events(job_id, limit=100))
            for event in reversed(events):
                if event.id in seen:
                    continue
                seen.add(event.id)
                match event.data:
                    case {"train_loss": float(loss), "step": int(step)}:
                        progress.update(bar, description=f"training loss {loss:.3f}", completed=step)
                        continue
                if event.message.startswith("Training on "):
                    progress.update(bar, total=int(event.message.split()[-2]))
                screen.print(f"  {time.strftime('%H:%M:%S', time.localtime(event.created_at))}  {event.message}")
            if job.status in ("succeeded", "failed", "cancelled"):
                break
            time.sleep(1)
    if job.status != "succeeded":
        raise SystemExit(f"the job has {job.status}: {job.error}")
    return job


def show_checkpoints(client: AzureOpenAI, job_id: str) -> None:
    """Prints step, model name and figures of each checkpoint of the job."""
    for checkpoint in client.fine_tuning.jobs.checkpoints.list(job_id):
        metrics = checkpoint.metrics
        screen.print(f"step {checkpoint.step_number}: {checkpoint.fine_tuned_model_checkpoint}")
        screen.print(
            f"  training loss {metrics.train_loss:.4f}, on the whole validation file: "
            f"loss {metrics.full_valid_loss:.4f}, token accuracy {metrics.full_valid_mean_token_accuracy:.4f}"
        )


def deploy(endpoint: str, api_key: str, name: str, model: str) -> None:
    """Deploys through the control plane, as the guide's deployment page does, waits for it and prints its parity.

    Asks twice a second. Raises SystemExit if the deployment has failed, httpx2.HTTPStatusError if it is refused.
    """
    address = f"{endpoint}{DEPLOYMENTS}/{name}"
    request: dict[str, Any] = {
        "params": {"api-version": API_VERSION},
        "headers": {"Authorization": f"Bearer {api_key}"},
        "timeout": 60,
    }
    body = {
        "sku": {"name": "standard", "capacity": 1},
        "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
    }
    deployment = httpx2.put(address, json=body, **request).raise_for_status().json()
    while deployment["properties"]["provisioningState"] == "Creating":
        time.sleep(0.5)
        deployment = httpx2.get(address, **request).raise_for_status().json()
    properties = deployment["properties"]
    if properties["provisioningState"] != "Succeeded":
        raise SystemExit(f"deployment {name} has failed: {properties['error']['message']}")
    proof = properties["parity"]
    screen.print(
        f"{name}: {model}\n  log-probabilities at {proof['positions']} positions differ by at most "
        f"{proof['max_difference']:.4f} nats (tolerance {proof['tolerance']})"
    )


def compare(client: AzureOpenAI, base_model: str, fine_tuned_model: str) -> None:
    """Asks both deployments the same questions, greedily, and prints the answers as a table."""
    table = Table("question", "base model", "fine-tuned model", show_lines=True)
    for question in QUESTIONS:
        messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        answers = [
            client.chat.completions.create(model=name, messages=messages, temperature=0, max_tokens=60)
            for name in (base_model, fine_tuned_model)
        ]
        table.add_row(question, *(answer.choices[0].message.content for answer in answers))
    screen.print(table, soft_wrap=False)


def heading(text: str) -> None:
    """Prints a rule with the text, after a blank line."""
    screen.print()
    screen.rule(text, align="left")


if __name__ == "__main__":
    run(os.environ["AZURE_OPENAI_ENDPOINT"], os.environ["AZURE_OPENAI_API_KEY"], Path.cwd())
