"""The search among a resource's tuned models, with what a list for people shows beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from luthier.core.models import Checkpoint, Deployment, Job
from luthier.service.context import Context
from luthier.store.queries import checkpoints, copies, deployments
from luthier.store.queries.portal import model_search


@dataclass(frozen=True, slots=True)
class FoundModels:
    """One page of tuned models, newest first. `jobs` are theirs by id, as far as there are; `deployments` all of the
    resource. `finals` and `on_the_way` count models of finished jobs and checkpoints before them."""

    models: Sequence[Checkpoint]
    has_more: bool
    jobs: Mapping[str, Job]
    deployments: Sequence[Deployment]
    finals: int
    on_the_way: int


def search(
    context: Context, resource_id: str, finals: bool | None, word: str, after: str | None, limit: int
) -> FoundModels:
    """The resource's own tuned models that contain `word`, after the id `after`; `finals` as in the query.

    Raises InvalidRequest for an `after` that is no model of the resource.
    """
    with context.database.reading() as tx:
        found, has_more = model_search.search(tx, resource_id, finals, word, after, limit)
        jobs = model_search.jobs_by_id(tx, resource_id, {one.job_id for one in found})
        n_finals, n_on_the_way = model_search.counts(tx, resource_id)
        return FoundModels(found, has_more, jobs, deployments.list_all(tx, resource_id), n_finals, n_on_the_way)


def of_others(context: Context, resource_id: str, limit: int) -> tuple[Sequence[Checkpoint], int]:
    """The first `limit` models that another resource has copied to this one or shares with it, and their number."""
    with context.database.reading() as tx:
        own = copies.list_of_resource(tx, resource_id)
        shared = [one for one in checkpoints.list_shared(tx, resource_id) if one.resource_id != resource_id]
    return [*own, *shared][:limit], len(own) + len(shared)


def deployable(context: Context, resource_id: str, limit: int) -> Sequence[str]:
    """Names to deploy: base models on this machine, then the newest `limit` tuned ones."""
    bases = [entry.name for entry in context.catalog.everything() if context.is_ready(entry.name)]
    with context.database.reading() as tx:
        tuned, _ = model_search.search(tx, resource_id, None, "", None, limit)
    return [*bases, *(one.model for one in tuned)]
