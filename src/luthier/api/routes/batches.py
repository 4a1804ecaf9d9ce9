"""/batches: create, get, list, cancel. Their files are read by /files/{id}/content."""

from typing import Annotated

from fastapi import Depends, Query

from luthier.api.auth import authentication
from luthier.api.dialects import answer
from luthier.api.dialects.dialects import Dialect
from luthier.api.dialects.inference.batch_answers import BatchAnswer
from luthier.api.requests.batch_bodies import BatchBody
from luthier.api.routes.inference import batch_lines
from luthier.api.routing.operation import PageOf, json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.service.batches import batches

_EXAMPLE = {
    "input_file_id": "file-" + "1" * 32,
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
}


def add_routes(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the dialect's routes of batches."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]
    reply = json_reply(BatchAnswer)

    @router.post("/batches", Action.BATCHES_WRITE, "Create a batch", reply, errors=(404,), example=_EXAMPLE)
    def create_batch(body: BatchBody, caller: Caller) -> object:
        """Its file is checked in the background: every fault there is in `errors` of the batch, which has failed then.

        Requests are answered when no live call needs the engine; what has no answer after 24 hours is an error.
        """
        batch_lines.check_endpoint(body.endpoint)
        request = batches.BatchRequest(
            dialect=dialect.name,
            endpoint=body.endpoint,
            input_file=body.input_file_id,
            metadata=body.metadata,
            output_expires_after_s=body.expires_after_s(dialect.min_expiry_s),
        )
        batch = batches.create(context, caller.resource.id, request)
        services.wake_batches()
        return BatchAnswer.from_batch(batch)

    @router.get("/batches", Action.BATCHES_READ, "List batches, newest first", json_reply(PageOf(BatchAnswer)))
    def list_batches(
        caller: Caller, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> object:
        """`after` is the last id of the page before."""
        page, has_more = batches.list_page(context, caller.resource.id, after, limit)
        return answer.page([BatchAnswer.from_batch(batch) for batch in page], has_more)

    @router.get("/batches/{batch_id}", Action.BATCHES_READ, "Get a batch", reply)
    def get_batch(batch_id: str, caller: Caller) -> object:
        """The counts of one in progress are some seconds old."""
        return BatchAnswer.from_batch(batches.get(context, caller.resource.id, batch_id))

    @router.post("/batches/{batch_id}/cancel", Action.BATCHES_WRITE, "Cancel a batch", reply)
    def cancel_batch(batch_id: str, caller: Caller) -> object:
        """What is answered by then will be in its files. 409 if it has ended or is about to."""
        batch = batches.cancel(context, caller.resource.id, batch_id)
        services.wake_batches()
        return BatchAnswer.from_batch(batch)
