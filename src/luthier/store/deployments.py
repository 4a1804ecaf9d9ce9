"""Queries on deployments."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from luthier.core.models import Deployment, JobError
from luthier.core.states import DeploymentState
from luthier.store import rows, schema

_deployments = schema.deployments


def put(tx: Connection, deployment: Deployment) -> None:
    """Writes the deployment in place of one of the same name."""
    delete(tx, deployment.resource_id, deployment.name)
    tx.execute(insert(_deployments).values(asdict(deployment)))


def get(tx: Connection, resource_id: str, name: str) -> Deployment | None:
    statement = select(_deployments).where(_deployments.c.resource_id == resource_id, _deployments.c.name == name)
    row = tx.execute(statement).mappings().first()
    return None if row is None else _deployment(row)


def list_all(tx: Connection, resource_id: str) -> list[Deployment]:
    statement = select(_deployments).where(_deployments.c.resource_id == resource_id).order_by(_deployments.c.name)
    return [_deployment(row) for row in tx.execute(statement).mappings()]


def list_creating(tx: Connection) -> list[Deployment]:
    """Every deployment that waits for its engine, of all resources, oldest first."""
    statement = select(_deployments).where(_deployments.c.state == DeploymentState.CREATING)
    return [_deployment(row) for row in tx.execute(statement.order_by(_deployments.c.created_at)).mappings()]


def names_using(tx: Connection, resource_id: str, models: Collection[str]) -> list[str]:
    """Names of the deployments that serve one of the models."""
    statement = select(_deployments.c.name).where(
        _deployments.c.resource_id == resource_id, _deployments.c.model.in_(list(models))
    )
    return sorted(tx.execute(statement).scalars())


def finish(
    tx: Connection,
    deployment: Deployment,
    state: DeploymentState,
    parity: Mapping[str, float] | None,
    error: JobError | None,
    now: datetime,
) -> bool:
    """Ends the creation of exactly this deployment; False if it was replaced or deleted meanwhile."""
    statement = update(_deployments).where(
        _deployments.c.resource_id == deployment.resource_id,
        _deployments.c.name == deployment.name,
        _deployments.c.state == DeploymentState.CREATING,
        _deployments.c.updated_at == deployment.updated_at,
    )
    values = {"state": state, "parity": parity, "error": rows.error_to_json(error), "updated_at": now}
    return tx.execute(statement.values(values)).rowcount == 1


def delete(tx: Connection, resource_id: str, name: str) -> bool:
    statement = _deployments.delete().where(_deployments.c.resource_id == resource_id, _deployments.c.name == name)
    return tx.execute(statement).rowcount == 1


def _deployment(row: rows.Row) -> Deployment:
    state = DeploymentState(row["state"])
    return Deployment(**{**row, "state": state, "error": rows.error_from_json(row["error"])})
