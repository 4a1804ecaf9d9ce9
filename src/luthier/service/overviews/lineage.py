"""The lineage of a model: data, job, checkpoints, deployments; what it continued from, and what continued it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from luthier.core.models import Checkpoint, Deployment, Job
from luthier.service.context import Context
from luthier.service.models.models import Model
from luthier.store.db import Connection
from luthier.store.queries import checkpoints, deployments
from luthier.store.queries.portal import job_search, model_search

MOST_ANCESTORS = 4
MOST_CHILDREN = 4


@dataclass(frozen=True, slots=True)
class Generation:
    """A job, and all that it saved, oldest first; in a chain `through` is the model by which it goes on.

    `job` is None if it is deleted or another resource's; `models` then have only the one that is known.
    """

    job: Job | None
    models: Sequence[Checkpoint]
    through: str | None


@dataclass(frozen=True, slots=True)
class Lineage:
    """The chain that leads to a model, its own generation last, and the jobs that go on from that one.

    `base_model` is what the chain begins at. `has_earlier`: the chain is longer than it is told. `lost_parent` is a
    model that the oldest job told went on from and that is deleted. `names` are filenames by id; a deleted file has no
    entry. `deployments` are the resource's.
    """

    base_model: str
    chain: Sequence[Generation]
    has_earlier: bool
    lost_parent: str | None
    children: Sequence[Generation]
    n_children: int
    names: Mapping[str, str]
    deployments: Sequence[Deployment]


def read(context: Context, resource_id: str, model: Model) -> Lineage:
    """The lineage of a model as the resource may see it, in one transaction; a base model has children only."""
    with context.database.reading() as tx:
        chain: list[Generation] = []
        parent: str | None = None
        if model.checkpoint is not None:
            chain, parent = _chain(tx, resource_id, model.checkpoint)
        own = [one.model for one in chain[-1].models] if chain else []
        base = None if chain else model.base.name
        jobs, n_children = model_search.continuing(tx, resource_id, own, base, MOST_CHILDREN)
        children = [Generation(job, checkpoints.list_of_job(tx, job.id), job.fine_tuned_model) for job in jobs]
        is_cut = parent is not None and checkpoints.find(tx, resource_id, parent) is not None
        known = [one.job for one in (*chain, *children) if one.job is not None]
        ids = {id for job in known for id in (job.training_file, job.validation_file) if id is not None}
        return Lineage(
            model.base.name,
            chain,
            is_cut,
            None if is_cut else parent,
            children,
            n_children,
            job_search.file_names(tx, resource_id, ids),
            deployments.list_all(tx, resource_id),
        )


def without_jobs(told: Lineage) -> Lineage:
    """What of a lineage a caller may see who may read neither jobs nor files: the models and the deployments."""
    chain = [replace(generation, job=None) for generation in told.chain]
    return replace(told, chain=chain, children=(), n_children=0, names={})


def _chain(tx: Connection, resource_id: str, own: Checkpoint) -> tuple[list[Generation], str | None]:
    """The generations that led to a checkpoint, oldest first, and the parent of the first of them that is not told."""
    chain: list[Generation] = []
    current: Checkpoint | None = own
    parent: str | None = None
    while current is not None and len(chain) <= MOST_ANCESTORS:
        job = model_search.jobs_by_id(tx, resource_id, [current.job_id]).get(current.job_id)
        saved = [current] if job is None else checkpoints.list_of_job(tx, job.id) or [current]
        chain.insert(0, Generation(job, saved, current.model))
        parent = None if job is None else job.parent_model
        current = None if parent is None else checkpoints.find(tx, resource_id, parent)
    return chain, parent
