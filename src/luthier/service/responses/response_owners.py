"""Which process generates an open response in the background: its owner, until that process has ended.

Without a name of its own (None) a process is the only one, and everything open is its own.
"""

import logging
from collections.abc import Collection

from luthier.core.inference.stored_responses import OPEN_STATUSES
from luthier.process import process_identity
from luthier.service.context import Context
from luthier.service.leasing.lease_keeper import PROCESS_PREFIX
from luthier.store.queries.inference import responses
from luthier.store.queries.inference.responses import OpenResponse
from luthier.store.queries.leasing import leases

logger = logging.getLogger(__name__)


def adopt(context: Context, process: str | None) -> list[OpenResponse]:
    """The open responses whose owner has ended, oldest first, which are this process's from now on.

    A process lives while it holds the lease of its name. Of two that adopt at once each response goes to one. Writes
    only if there is one. Raises NoSpace.
    """
    if process is None:
        with context.database.reading() as tx:
            return responses.list_open(tx)
    with context.database.reading() as tx:
        opened = [response for response in responses.list_open(tx) if response.owner != process]
        held = leases.list_prefixed(tx, PROCESS_PREFIX) if opened else []
    living = {one.lease.name for one in held if not one.is_over and not process_identity.has_ended(one.lease.holder)}
    left = [response for response in opened if response.owner not in living]
    if not left:
        return []
    with context.database.writing() as tx:
        adopted = [response for response in left if responses.take_over(tx, response, process)]
    if adopted:
        logger.info("responses taken over count=%d", len(adopted))
    return adopted


def list_lost(context: Context, process: str | None, response_ids: Collection[str]) -> set[str]:
    """Those of the ids, which this process generates, that have ended elsewhere: cancelled, deleted or taken over."""
    with context.database.reading() as tx:
        own = {response.id for response in responses.list_open(tx) if process is None or response.owner == process}
    return set(response_ids) - own


def is_elsewhere(context: Context, process: str | None, resource_id: str, response_id: str) -> bool:
    """Whether another process than this one generates the response, or has generated it."""
    with context.database.reading() as tx:
        generation = responses.generation(tx, resource_id, response_id)
    return generation is not None and generation[1] is not None and process not in {None, generation[1]}


def has_ended(context: Context, resource_id: str, response_id: str) -> bool:
    """Whether the response has no answer to wait for: it has ended, or is gone."""
    with context.database.reading() as tx:
        generation = responses.generation(tx, resource_id, response_id)
    return generation is None or generation[0] not in OPEN_STATUSES
