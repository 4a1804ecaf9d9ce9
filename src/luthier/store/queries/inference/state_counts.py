"""How many of everything is in which state, over all resources: for the operator's metrics."""

from sqlalchemy import Connection, func, select

from luthier.core.inference.stored_responses import ResponseStatus
from luthier.core.states import BatchStatus, DeploymentState, JobStatus
from luthier.core.webhooks.webhook_events import DeliveryState
from luthier.store import inference_schema, schema, webhook_schema


def by_state(tx: Connection) -> dict[str, dict[str, int]]:
    """By noun and state the number of rows, 0 for a state without any; hidden jobs are not counted."""
    jobs, deployments = schema.jobs, schema.deployments
    batches, responses = inference_schema.batches, inference_schema.responses
    tables = (
        ("jobs", jobs.c.status, JobStatus, jobs.c.is_deleted.is_(False)),
        ("deployments", deployments.c.state, DeploymentState, None),
        ("batches", batches.c.status, BatchStatus, None),
        ("stored_responses", responses.c.status, ResponseStatus, None),
        ("webhook_deliveries", webhook_schema.webhook_deliveries.c.state, DeliveryState, None),
    )
    counts: dict[str, dict[str, int]] = {}
    for noun, column, states, condition in tables:
        statement = select(column, func.count()).group_by(column)
        rows = {row[0]: row[1] for row in tx.execute(statement if condition is None else statement.where(condition))}
        counts[noun] = {str(state): rows.get(str(state), 0) for state in states}
    return counts


def trained_tokens(tx: Connection) -> int:
    """The tokens that the jobs which are not deleted have trained on."""
    jobs = schema.jobs
    statement = select(func.coalesce(func.sum(jobs.c.trained_tokens), 0)).where(jobs.c.is_deleted.is_(False))
    return int(tx.execute(statement).scalar_one())
