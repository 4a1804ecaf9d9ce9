"""/responses/{id}: a stored response, the events of one in the background, its input, and its end."""

from functools import partial
from typing import Annotated, Literal

from fastapi import Depends, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from luthier.api.auth import authentication
from luthier.api.dialects.dialects import Dialect
from luthier.api.http import thread_pools
from luthier.api.http.disconnects import EventStream
from luthier.api.http.thread_pools import Workers
from luthier.api.routes.inference import background_responses, elsewhere_responses
from luthier.api.routes.inference.background_responses import BackgroundResponses
from luthier.api.routing import json_schema as js
from luthier.api.routing import response_schemas
from luthier.api.routing.json_response import JsonResponse
from luthier.api.routing.operation import JSON, SSE, EventStreamOf, Reply, json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.service.responses import response_owners, stored_responses

_RESPONSE = Reply(content={JSON: response_schemas.response(), SSE: EventStreamOf(response_schemas.event())})
_DELETED = js.object_schema({"id": js.TEXT, "object": js.const("response"), "deleted": js.const(True)})


def add_routes(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the dialect's routes of stored responses."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]
    Limit = Annotated[int, Query(ge=1, le=stored_responses.MAX_ITEMS_PER_PAGE)]

    @router.get("/responses/{response_id}", Action.INFER, "Get a response", _RESPONSE)
    async def get_response(
        request: Request,
        response_id: str,
        caller: Caller,
        stream: bool = False,
        starting_after: Annotated[int | None, Query(ge=-1)] = None,
    ) -> Response:
        """With `stream` the events of one in the background, behind the sequence number `starting_after`."""
        response = await run_in_threadpool(stored_responses.get, context, caller.resource.id, response_id)
        if not stream:
            if starting_after is not None:
                raise InvalidRequest("invalid_value", "starting_after goes with stream=true alone.", "starting_after")
            return JsonResponse(response.body)
        after, background = -1 if starting_after is None else starting_after, _background(request)
        events = background.follow(response.id, after)
        if events is None and await run_in_threadpool(
            response_owners.is_elsewhere, context, services.process, caller.resource.id, response.id
        ):
            events = elsewhere_responses.follow(context, background, caller.resource.id, response.id, after)
        if events is None:
            text = "The events of this response are not kept; get it without stream."
            raise InvalidRequest("events_not_kept", text, "stream")
        return EventStream(background_responses.while_authorized(services, request, events))

    _add_endings(router, services)

    @router.get(
        "/responses/{response_id}/input_items",
        Action.INFER,
        "List what a response was given",
        json_reply(response_schemas.input_items()),
    )
    def list_input_items(
        response_id: str,
        caller: Caller,
        after: str | None = None,
        limit: Limit = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> object:
        """The items of its input, those of earlier turns included, newest first."""
        items, has_more = stored_responses.input_items(
            context, caller.resource.id, response_id, after, limit, order == "asc"
        )
        first, last = (items[0]["id"], items[-1]["id"]) if items else (None, None)
        return {"object": "list", "data": items, "first_id": first, "last_id": last, "has_more": has_more}


def _add_endings(router: Router, services: Services) -> None:
    """Adds the routes that end or delete a response."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]

    @router.delete("/responses/{response_id}", Action.INFER, "Delete a response", json_reply(_DELETED))
    async def delete_response(request: Request, response_id: str, caller: Caller) -> Response:
        """Deletes its text; a conversation cannot be continued through it."""
        delete = partial(stored_responses.delete, context, caller.resource.id, response_id)
        await thread_pools.run(Workers.WRITES, delete)
        _background(request).stop(response_id)
        return JsonResponse({"id": response_id, "object": "response", "deleted": True})

    @router.post(
        "/responses/{response_id}/cancel",
        Action.INFER,
        "Cancel a response in the background",
        json_reply(response_schemas.response()),
    )
    async def cancel_response(request: Request, response_id: str, caller: Caller) -> Response:
        """409 once it has ended; one that was cancelled before is answered as it is."""
        cancel = partial(stored_responses.cancel, context, caller.resource.id, response_id)
        cancelled = await thread_pools.run(Workers.WRITES, cancel)
        _background(request).stop(response_id)
        return JsonResponse(cancelled.body)


def _background(request: Request) -> BackgroundResponses:
    """The responses that this process generates."""
    background: BackgroundResponses = request.app.state.background_responses
    return background
