"""Models: resolve a name, list them, delete a fine-tuned one."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from luthier.catalog import BaseModelEntry
from luthier.core import ids
from luthier.core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from luthier.core.models import Checkpoint
from luthier.service.context import Context
from luthier.store.db import Connection
from luthier.store.queries import checkpoints, copies, deployments

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Model:
    """A name that can be called or tuned: a base model, an alias of one, a fine-tuned model or a checkpoint.

    `ready` is whether the base weights are on this machine.
    """

    name: str
    base: BaseModelEntry
    checkpoint: Checkpoint | None
    created_at: datetime
    ready: bool

    @property
    def is_alias(self) -> bool:
        return self.checkpoint is None and self.name != self.base.name

    @property
    def canonical_name(self) -> str:
        return self.checkpoint.model if self.checkpoint else self.base.name

    @property
    def logged_id(self) -> str:
        """The id for logs: a tuned model's name ends in the suffix, which is text of its user."""
        return self.checkpoint.id if self.checkpoint else self.base.name


def resolve(context: Context, tx: Connection, resource_id: str, name: str) -> Model | None:
    """The model of that name for this resource: base model, alias, its own, a copy or a shared one; None for none.

    Raises NotFound if the base model of a tuned one is no longer in the catalog.
    """
    entry = context.catalog.find(name)
    if entry is not None:
        return _base(context, name, entry)
    checkpoint = checkpoints.find(tx, resource_id, name)
    return None if checkpoint is None else _tuned(context, checkpoint)


def get(context: Context, resource_id: str, name: str) -> Model:
    """As `resolve`, in a transaction of its own. Raises NotFound if there is none."""
    with context.database.reading() as tx:
        model = resolve(context, tx, resource_id, name)
    if model is None:
        raise not_found(name)
    return model


def list_bases(context: Context) -> list[Model]:
    """Base models, and the aliases of those that are ready: what every resource may use."""
    listed = []
    for entry in context.catalog.everything():
        base = _base(context, entry.name, entry)
        if not base.ready and entry.name not in context.catalog.entries:
            continue
        listed.append(base)
        if base.ready:
            listed += [_base(context, alias, entry) for alias in context.catalog.aliases_of(entry.name)]
    return listed


def list_all(context: Context, resource_id: str) -> list[Model]:
    """What the resource may use: base models, aliases of those that are ready, fine-tuned models and checkpoints."""
    with context.database.reading() as tx:
        tuned = checkpoints.list_of_resource(tx, resource_id)
    ready = cache(context.is_ready)  # many models are of few bases
    return list_bases(context) + [_tuned(context, checkpoint, ready) for checkpoint in tuned]


def delete(context: Context, resource_id: str, name: str) -> list[Checkpoint]:
    """Deletes a fine-tuned model with its checkpoints, or one checkpoint, rows and blobs; returns what was deleted.

    Of a copy only the copy goes: its blobs are its own, under its own id. Blobs go after the rows are committed: a
    crash between leaves orphans for `orphaned_blobs`, never a model without its files.
    Raises NotFound, InvalidRequest for a base model, Forbidden for one that is only shared, and Conflict while a
    deployment uses any of it (the guide, "Delete your customized model").
    """
    with context.database.writing() as tx:
        model = resolve(context, tx, resource_id, name)
        if model is None:
            raise not_found(name)
        if model.checkpoint is None:
            raise InvalidRequest(
                "base_model_not_deletable",
                f"{name} is a base model; only fine-tuned models and their checkpoints can be deleted here.",
            )
        if model.checkpoint.resource_id != resource_id:
            raise Forbidden(
                "model_not_own", f"{name} is shared with this resource; only the one that trained it can delete it."
            )
        deleted = [model.checkpoint]
        if ids.CHECKPOINT_MARK not in model.checkpoint.model and model.checkpoint.copied_from is None:
            deleted = checkpoints.list_of_job(tx, model.checkpoint.job_id)
        delete_rows(tx, resource_id, name, deleted)
    for checkpoint in deleted:
        delete_bytes(context, checkpoint)
        logger.info("model deleted checkpoint=%s resource=%s", checkpoint.id, resource_id)
    return deleted


def delete_rows(tx: Connection, resource_id: str, name: str, deleted: list[Checkpoint]) -> None:
    """Deletes the rows of checkpoints, their blobs are left to `delete_bytes`; `name` is for the message.

    Raises Conflict while one is deployed, by this resource or by one that it is shared with.
    """
    served = [checkpoint.model for checkpoint in deleted]
    users = deployments.names_using(tx, resource_id, served)
    sharing = deployments.count_sharing(tx, resource_id, served) if deleted and deleted[0].copied_from is None else 0
    if sharing:
        users.append(f"of a resource that it is shared with ({sharing})")
    if users:
        raise Conflict(
            "model_in_use",
            f"{name} cannot be deleted: deployment {', '.join(users)} uses it or one of its checkpoints. "
            "Delete the deployment first, then the model.",
        )
    for checkpoint in deleted:
        if checkpoint.copied_from is None:
            checkpoints.delete(tx, checkpoint.id)
        else:
            copies.delete(tx, checkpoint.id)


def delete_bytes(context: Context, checkpoint: Checkpoint) -> None:
    """Deletes the blobs of a checkpoint; one that is missing is no error."""
    for name in checkpoint.files:
        context.blobs.delete(blob_key(checkpoint.id, name))


def blob_key(checkpoint_id: str, name: str) -> str:
    return f"checkpoints/{checkpoint_id}/{name}"


def not_found(name: str, param: str | None = None) -> NotFound:
    return NotFound("model_not_found", f"There is no model {name!r} here. GET .../models lists them.", param)


def _base(context: Context, name: str, entry: BaseModelEntry) -> Model:
    released = datetime.fromtimestamp(entry.released, UTC)
    return Model(name, entry, None, released, context.is_ready(entry.name))


def _tuned(context: Context, checkpoint: Checkpoint, is_ready: Callable[[str], bool] | None = None) -> Model:
    """The model of a checkpoint; `is_ready` is the context's, or one that remembers.

    Raises NotFound if its base model is no longer in the catalog.
    """
    entry = context.catalog.find(checkpoint.base_model)
    if entry is None:
        raise NotFound(
            "base_model_gone",
            f"{checkpoint.model} was tuned on {checkpoint.base_model}, which the catalog no longer has. "
            "Put its entry back into the catalog.",
        )
    ready = (is_ready or context.is_ready)(entry.name)
    return Model(checkpoint.model, entry, checkpoint, checkpoint.created_at, ready)
