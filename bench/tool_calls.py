"""`make bench-tools`: how often base model and tuned one call the right function, on rows that neither has seen.

A real `luthier serve`, driven by the openai SDK: upload, job, deployments, chat with tools at temperature 0. Beside the
file's own held-out rows the last of its training rows are held out too, for it has few.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema_rs
from openai import OpenAI
from openai.types.fine_tuning.job_create_params import Hyperparameters

from bench import process, sets

MODEL = "smollm2-135m-instruct"
HELD_OUT = 30
ASPECTS = (
    "calls where it should",
    "calls nothing where it should not",
    "right function",
    "arguments parse",
    "arguments fit the schema",
    "arguments equal",
)


def main() -> None:
    options = _parser().parse_args()
    training, held_out = sets.apart("stock", options.data_folder, HELD_OUT)
    with tempfile.TemporaryDirectory(prefix="bench-tools-") as folder, _service(Path(folder), options) as client:
        files = [
            _upload(client, Path(folder) / name, rows)
            for name, rows in (("train.jsonl", training), ("valid.jsonl", held_out))
        ]
        asked: Hyperparameters = {"n_epochs": options.epochs} if options.epochs else {}
        job = client.fine_tuning.jobs.create(
            model=MODEL, training_file=files[0], validation_file=files[1], seed=1, hyperparameters=asked
        )
        tuned = _ended(client, job.id)
        counts = {
            "tuned": _count(client, tuned, held_out, {"parallel_tool_calls": False}),
            "tuned, as many calls as it likes": _count(client, tuned, held_out, {}),
            "base": _count(client, MODEL, held_out, {"parallel_tool_calls": False}),
        }
    calls = sum(1 for row in held_out if _expected(row))
    silent = len(held_out) - calls
    print(f"\n{len(training)} rows to train on, {len(held_out)} held out: {calls} of them call, {silent} do not")
    print(f"\n| | of | {' | '.join(counts)} |\n|---|---|{'---|' * len(counts)}")
    for aspect in ASPECTS:
        of = silent if aspect == ASPECTS[1] else calls
        print(f"| {aspect} | {of} | {' | '.join(str(found[aspect]) for found in counts.values())} |")


@contextmanager
def _service(folder: Path, options: argparse.Namespace) -> Iterator[OpenAI]:
    command = [sys.executable, "-m", "luthier", "serve", "--port", "0", "--data-dir", str(folder / "data")]
    env = process.environment() | {"LUTHIER_SERVER_KEY": "bench-key", "LUTHIER_MODELS_DIR": str(options.models_folder)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as service:
        try:
            assert service.stdout is not None
            for line in service.stdout:
                if line.startswith("export AZURE_OPENAI_ENDPOINT="):
                    url = line.strip().partition("=")[2]
                if line.startswith("API description"):
                    break
            yield OpenAI(base_url=f"{url}/v1", api_key="bench-key", timeout=600)
        finally:
            service.send_signal(signal.SIGTERM)


def _upload(client: OpenAI, path: Path, rows: list[sets.Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return client.files.create(file=path, purpose="fine-tune").id


def _ended(client: OpenAI, job_id: str) -> str:
    """The tuned model's name; what the job told is printed."""
    while (job := client.fine_tuning.jobs.retrieve(job_id)).status not in ("succeeded", "failed", "cancelled"):
        time.sleep(5)
    for event in reversed(list(client.fine_tuning.jobs.list_events(job_id, limit=100))):
        print(event.message)
    print(job.hyperparameters)
    if job.fine_tuned_model is None:
        raise SystemExit(f"the job {job.status}: {job.error}")
    for checkpoint in client.fine_tuning.jobs.checkpoints.list(job_id):
        print(f"step {checkpoint.step_number}: held-out loss {checkpoint.metrics.full_valid_loss}")
    return job.fine_tuned_model


def _count(client: OpenAI, model: str, rows: list[sets.Row], fields: dict[str, Any]) -> dict[str, int]:
    """How many rows are right in each aspect; the four last count the rows that are to call."""
    counts = dict.fromkeys(ASPECTS, 0)
    for row in rows:
        answer = client.chat.completions.create(
            model=model, messages=row["messages"][:-1], tools=row["tools"], temperature=0, max_tokens=100, **fields
        )
        calls = [call.function for call in answer.choices[0].message.tool_calls or () if call.type == "function"]
        given = [(call.name, call.arguments) for call in calls]
        print(f"{model} {_expected(row) or 'words'} <- {given or 'words'}", flush=True)
        for aspect, right in zip(ASPECTS, _judged(row, given), strict=True):
            counts[aspect] += right
    return counts


def _judged(row: sets.Row, calls: list[tuple[str, str]]) -> tuple[bool, ...]:
    """Each aspect of an answer's calls."""
    expected = _expected(row)
    if not expected or not calls:
        return (False, not expected and not calls, False, False, False, False)
    names = [name for name, _ in calls] == [name for name, _ in expected]
    parsed = [_parsed(arguments) for _, arguments in calls]
    parses = all(isinstance(arguments, dict) for arguments in parsed)
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in row["tools"]}
    fits = parses and all(
        jsonschema_rs.is_valid(schemas.get(name, False), arguments)
        for (name, _), arguments in zip(calls, parsed, strict=True)
    )
    equal = names and parsed == [_parsed(arguments) for _, arguments in expected]
    return True, False, names, parses, fits, equal


def _expected(row: sets.Row) -> list[tuple[str, str]]:
    calls = [call["function"] for call in row["messages"][-1].get("tool_calls", ())]
    return [(call["name"], call["arguments"]) for call in calls]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.tool_calls", description=__doc__)
    parser.add_argument("--epochs", type=int, help='passes over the rows; by default "auto"')
    parser.add_argument("--data-folder", type=Path, default=process.ROOT.parent / "shared" / "data")
    parser.add_argument("--models-folder", type=Path, default=process.ROOT / ".cache" / "models")
    return parser


if __name__ == "__main__":
    main()
