"""Fills a data folder with tenants and their queued jobs, as if all had been created and validated at one time."""

import random
from datetime import datetime
from pathlib import Path

from luthier import data_folder
from luthier.core import ids
from luthier.core.models import File, Job, Resource
from luthier.core.states import FilePurpose, FileStatus, JobStatus, Method
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.service.context import Context
from luthier.service.files.files import blob_key
from luthier.settings import Settings
from luthier.store import db
from luthier.store.queries import files, jobs, resources

MODELS = {"small": "cpus = 4", "whole": "cpus = 8", "gpu": "cpus = 4, gpus = 4"}
"""The base models of the simulation by the needs of their runs."""
SHARES = ("small",) * 17 + ("whole",) * 2 + ("gpu",)
HEAVY_SHARE = 10
"""One tenant in so many has half of all jobs together with the others of its kind; the rest is spread evenly."""
_MODEL = """
[[model]]
name = "sim-{name}"
title = "sim"
parameters = "1M"
licence = "MIT"
released = 1
context_tokens = 512
learning_rate = 1e-4
lora = {{ rank = 1, alpha = 1, targets = ["q_proj"] }}
source = {{ kind = "folder", path = "nowhere" }}
needs = {{ {needs} }}
"""


def make_context(folder: Path, clock: "list[datetime]") -> Context:
    """A context on an empty data folder whose clock is the first element of `clock`."""
    catalog = folder / "catalog.toml"
    catalog.write_text("".join(_MODEL.format(name=name, needs=needs) for name, needs in MODELS.items()))
    settings = Settings(data_dir=folder, catalog=catalog)
    database = db.open_database(folder / data_folder.DATABASE)
    store = data_folder.make_store(settings)
    own = data_folder.claim(database, data_folder.store_location(settings, store), clock[0])
    return data_folder.make_context(settings, database, store, own, lambda: clock[0])


def fill(context: Context, n_jobs: int, n_tenants: int) -> set[str]:
    """Inserts the rows in an order that mixes tenants; returns the tenants with many jobs."""
    chance = random.Random(7)
    tenants = [f"tenant-{number:04}" for number in range(n_tenants)]
    heavy = tenants[: max(1, n_tenants // HEAVY_SHARE)]
    owners = [tenants[number % n_tenants] for number in range(n_jobs // 2)]
    owners += [heavy[number % len(heavy)] for number in range(n_jobs - len(owners))]
    chance.shuffle(owners)
    file_ids = {tenant: ids.file_id(f"{number:032x}") for number, tenant in enumerate(tenants)}
    for tenant in tenants:
        context.blobs.put(blob_key(file_ids[tenant]), [b'{"messages": []}\n'])
    with context.database.writing() as tx:
        for tenant in tenants:
            resources.insert_resource(tx, Resource(tenant, "s", "g", tenant), context.now())
            files.insert_file(tx, _file(context, tenant, file_ids[tenant]))
        for number, owner in enumerate(owners):
            jobs.insert_job(tx, _job(context, owner, file_ids[owner], number, chance.choice(SHARES)))
    return set(heavy)


def _file(context: Context, tenant: str, file_id: str) -> File:
    return File(
        id=file_id,
        resource_id=tenant,
        filename="rows.jsonl",
        purpose=FilePurpose.FINE_TUNE,
        bytes=17,
        sha256="0" * 64,
        status=FileStatus.PROCESSED,
        status_details="",
        created_at=context.now(),
    )


def _job(context: Context, owner: str, file_id: str, number: int, model: str) -> Job:
    return Job(
        id=ids.job_id(f"{number:032x}"),
        resource_id=owner,
        status=JobStatus.QUEUED,
        base_model=f"sim-{model}",
        requested_model=f"sim-{model}",
        parent_model=None,
        training_file=file_id,
        validation_file=None,
        hyperparameters=Hyperparameters(1, 1, 1.0),
        method=Method.SUPERVISED,
        method_sent=False,
        seed=number,
        suffix=None,
        extras={},
        created_at=context.now(),
        peak_memory_bytes=2**30,
    )
