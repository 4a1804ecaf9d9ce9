"""Fills a data folder as years of use would: jobs, files, checkpoints, deployments and one run with very many steps."""

import json
import math
import random
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from luthier import data_folder
from luthier.core import ids
from luthier.core.models import Checkpoint, Event, File, Job
from luthier.core.states import EventLevel, EventType, FilePurpose, FileStatus, JobStatus, Method
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.service.context import Context
from luthier.service.files.files import blob_key
from luthier.settings import Settings
from luthier.store import db, installation
from luthier.store.db import Database
from luthier.store.queries import checkpoints, events, files, jobs

BASE = "smollm2-135m-instruct"
ROW = {"messages": [{"role": "user", "content": "How do I tune a peg?"}, {"role": "assistant", "content": "Slowly."}]}
_STATUSES = [JobStatus.SUCCEEDED] * 7 + [JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.PAUSED]


def fill(data_dir: Path, n_jobs: int, n_rows: int) -> str:
    """Inserts the rows; returns the id of the job that has `n_rows` metric events. The service must not run."""
    settings = Settings(data_dir=data_dir)
    database = db.open_database(data_dir / data_folder.DATABASE)
    with database.reading() as tx:
        own = installation.get(tx)
    context = data_folder.make_context(settings, database, data_folder.make_store(settings), own, data_folder.utc_now)
    chance = random.Random(7)
    start = datetime(2025, 1, 1, tzinfo=UTC)
    file_ids = [_file(context, start + timedelta(hours=number), number) for number in range(200)]
    job_ids = [
        _job(database, chance, start + timedelta(hours=8 * number), file_ids[number % 200]) for number in range(n_jobs)
    ]
    longest = job_ids[-1]
    at = start + timedelta(hours=8 * n_jobs)
    for part in _batches(n_rows):
        with database.writing() as tx:
            events.insert_events(tx, [_metrics(longest, step, n_rows, at) for step in part])
    database.close()
    return longest


def _file(context: Context, at: datetime, number: int) -> str:
    content = b"".join(json.dumps(ROW).encode() + b"\n" for _ in range(20))
    file_id = ids.file_id(uuid.UUID(int=number + 1).hex)
    blob = context.blobs.put(blob_key(file_id), [content])
    file = File(
        id=file_id,
        resource_id=ids.DEFAULT_RESOURCE,
        filename=f"support-tickets-{number:04}.jsonl",
        purpose=FilePurpose.FINE_TUNE,
        bytes=blob.bytes,
        sha256=blob.sha256,
        status=FileStatus.PROCESSED,
        status_details="",
        created_at=at,
    )
    with context.database.writing() as tx:
        files.insert_file(tx, file)
    return file_id


def _job(database: Database, chance: random.Random, at: datetime, file_id: str) -> str:
    job_id = ids.job_id(uuid.UUID(int=chance.getrandbits(128)).hex)
    status = chance.choice(_STATUSES)
    job = Job(
        id=job_id,
        resource_id=ids.DEFAULT_RESOURCE,
        status=JobStatus.SUCCEEDED,
        base_model=BASE,
        requested_model=BASE,
        parent_model=None,
        training_file=file_id,
        validation_file=None,
        hyperparameters=Hyperparameters(3, 4, 1.0),
        method=Method.SUPERVISED,
        method_sent=False,
        seed=chance.randrange(1000),
        suffix=f"tickets-{chance.randrange(10_000)}",
        extras={},
        created_at=at,
        started_at=at + timedelta(minutes=1),
        finished_at=at + timedelta(minutes=30),
        trained_tokens=chance.randrange(10**6),
    )
    model = f"{BASE}.ft-{job_id[6:]}-{job.suffix}"
    if status is JobStatus.SUCCEEDED:
        job = replace(job, fine_tuned_model=model)
    steps = [
        Checkpoint(
            id=ids.checkpoint_id(uuid.UUID(int=chance.getrandbits(128)).hex),
            resource_id=ids.DEFAULT_RESOURCE,
            job_id=job_id,
            model=f"{model}:ckpt-step-{step}" if step < 300 else model,
            base_model=BASE,
            step=step,
            metrics={"train_loss": 2 / step, "full_valid_loss": 1 + 1 / step},
            files=(),
            created_at=at + timedelta(minutes=step // 10),
        )
        for step in (100, 200, 300)
    ]
    with database.writing() as tx:
        jobs.insert_job(tx, replace(job, status=status))
        events.insert_events(tx, [_message(job_id, at, number) for number in range(8)])
        for checkpoint in steps if status is JobStatus.SUCCEEDED else ():
            checkpoints.insert_checkpoint(tx, checkpoint)
    return job_id


def _message(job_id: str, at: datetime, number: int) -> Event:
    text = f"Checkpoint created at step {100 * number}, the end of epoch {number}."
    return Event(ids.event_id(uuid.uuid4().hex), job_id, at, EventLevel.INFO, EventType.MESSAGE, text)


def _metrics(job_id: str, step: int, n_steps: int, start: datetime) -> Event:
    loss = 3 * math.exp(-step / n_steps * 3) + 0.2 * math.sin(step / 50)
    data = {"step": step, "train_loss": loss, "train_mean_token_accuracy": min(0.99, 1 - loss / 4)}
    data |= {"learning_rate": 2e-4 * (1 - step / n_steps), "gradient_norm": 1 + loss, "trained_tokens": 900 * step}
    if step % 100 == 0:
        data |= {"full_valid_loss": loss + 0.1, "full_valid_mean_token_accuracy": 0.8}
    text = f"Step {step}: training loss={loss!r}"
    at = start + timedelta(seconds=step)
    return Event(ids.event_id(uuid.uuid4().hex), job_id, at, EventLevel.INFO, EventType.METRICS, text, data)


def _batches(number: int, length: int = 10_000) -> Iterator[range]:
    for first in range(1, number + 1, length):
        yield range(first, min(first + length, number + 1))
