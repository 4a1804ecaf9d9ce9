"""Queries on deployments: rows only, no engine is started or stopped here. The functions that write need a transaction
of `Database.writing`.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, insert, or_, select, update

from luthier.core.models import Deployment, JobError
from luthier.core.states import DeploymentState
from luthier.store import row_mapping, schema
from luthier.store.queries import copies

_deployments = schema.deployments


def put(tx: Connection, deployment: Deployment) -> None:
    """Inserts the deployment, or replaces the one of its resource and name with all of its fields."""
    delete(tx, deployment.resource_id, deployment.name)
    tx.execute(insert(_deployments).values(asdict(deployment)))


def get(tx: Connection, resource_id: str, name: str) -> Deployment | None:
    """The deployment of that name; None if the resource has none."""
    statement = select(_deployments).where(_deployments.c.resource_id == resource_id, _deployments.c.name == name)
    row = tx.execute(statement).mappings().first()
    return None if row is None else _deployment(row)


def list_all(tx: Connection, resource_id: str) -> list[Deployment]:
    """Every deployment of the resource, in whatever state, by name."""
    statement = select(_deployments).where(_deployments.c.resource_id == resource_id).order_by(_deployments.c.name)
    return [_deployment(row) for row in tx.execute(statement).mappings()]


def list_creating(tx: Connection) -> list[Deployment]:
    """Every deployment of all resources that waits for its engine (state Creating), oldest first."""
    statement = select(_deployments).where(_deployments.c.state == DeploymentState.CREATING)
    return [_deployment(row) for row in tx.execute(statement.order_by(_deployments.c.created_at)).mappings()]


def names_using(tx: Connection, resource_id: str, models: Collection[str]) -> list[str]:
    """Names of the resource's deployments, in whatever state, that serve one of the models or are to, sorted."""
    statement = select(_deployments.c.name).where(_deployments.c.resource_id == resource_id, _names(models))
    return sorted(tx.execute(statement).scalars())


def count_sharing(tx: Connection, resource_id: str, models: Collection[str]) -> int:
    """How many deployments of other resources serve one of the models of this one, and have no copy of their own to
    serve it from.
    """
    of_copies = schema.checkpoint_copies.c
    has_copy = select(of_copies.id).where(
        copies.held_by(_deployments.c.resource_id), of_copies.model == _deployments.c.model
    )
    statement = select(_deployments.c.name).where(
        _deployments.c.resource_id != resource_id, _names(models), ~has_copy.exists()
    )
    return len(tx.execute(statement).all())


def is_served(tx: Connection, model: str) -> bool:
    """Whether a deployment of any resource names the model, in whatever state: its engine is still needed."""
    return tx.execute(select(_deployments.c.name).where(_names([model]))).first() is not None


def set_used(tx: Connection, resource_id: str, name: str, now: datetime, unless_since: datetime) -> None:
    """Notes a call of the deployment at `now`, unless one was noted after `unless_since`: a write per call would be too
    many.
    """
    named = _deployments.c.resource_id == resource_id, _deployments.c.name == name
    tx.execute(update(_deployments).where(*named, _deployments.c.last_used_at <= unless_since).values(last_used_at=now))


def list_expired(
    tx: Connection,
    developer_skus: Collection[str],
    sku_set_before: datetime | None,
    last_called_before: datetime | None,
) -> list[Deployment]:
    """Deployments of all resources that have expired, in no stated order; nothing is deleted.

    Those with one of `developer_skus` set before `sku_set_before`, and those of a fine-tuned model that were last
    called before `last_called_before`. None switches that rule off; without any rule the list is empty.
    """
    tables = schema.checkpoints, schema.checkpoint_copies
    tuned = [select(table.c.id).where(table.c.model == _deployments.c.model).exists() for table in tables]
    conditions: list[ColumnElement[bool]] = []
    if sku_set_before is not None:
        conditions.append(
            _deployments.c.sku_name.in_(list(developer_skus)) & (_deployments.c.sku_changed_at < sku_set_before)
        )
    if last_called_before is not None:
        conditions.append((_deployments.c.last_used_at < last_called_before) & (tuned[0] | tuned[1]))
    if not conditions:
        return []
    statement = select(_deployments).where(or_(*conditions))
    return [_deployment(row) for row in tx.execute(statement).mappings()]


def finish(
    tx: Connection,
    deployment: Deployment,
    state: DeploymentState,
    parity: Mapping[str, float] | None,
    error: JobError | None,
    now: datetime,
) -> bool:
    """Writes how the creation of exactly this deployment ended; `error` is None unless it failed, `parity` None without
    a report. False, and nothing is written, if it was replaced or deleted meanwhile.
    """
    statement = update(_deployments).where(
        _deployments.c.resource_id == deployment.resource_id,
        _deployments.c.name == deployment.name,
        _deployments.c.state == DeploymentState.CREATING,
        _deployments.c.updated_at == deployment.updated_at,
    )
    values = {"state": state, "parity": parity, "error": row_mapping.error_to_json(error), "updated_at": now}
    if state is DeploymentState.SUCCEEDED:
        values["answering"] = None
    return tx.execute(statement.values(values)).rowcount == 1


def delete(tx: Connection, resource_id: str, name: str) -> bool:
    """Deletes the row; False if there was none."""
    statement = _deployments.delete().where(_deployments.c.resource_id == resource_id, _deployments.c.name == name)
    return tx.execute(statement).rowcount == 1


def _names(models: Collection[str]) -> ColumnElement[bool]:
    """The condition that a deployment's model is one of these, or the model that answers in its place."""
    return _deployments.c.model.in_(list(models)) | _deployments.c.answering.in_(list(models))


def _deployment(row: row_mapping.Row) -> Deployment:
    state = DeploymentState(row["state"])
    return Deployment(**{**row, "state": state, "error": row_mapping.error_from_json(row["error"])})
