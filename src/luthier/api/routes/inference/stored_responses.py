"""/responses/{id}: a stored response, its input, its end; and a count of the tokens that a response would read."""

from typing import Annotated, Literal

from fastapi import Depends, Query

from luthier.api.auth import authentication
from luthier.api.dialects.dialects import Dialect
from luthier.api.routing import json_schema as js
from luthier.api.routing import response_schemas
from luthier.api.routing.operation import json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.service.responses import stored_responses

_DELETED = js.object_schema({"id": js.TEXT, "object": js.const("response"), "deleted": js.const(True)})


def add_routes(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the dialect's routes of stored responses."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]
    Limit = Annotated[int, Query(ge=1, le=stored_responses.MAX_ITEMS_PER_PAGE)]

    @router.get("/responses/{response_id}", Action.INFER, "Get a response", json_reply(response_schemas.response()))
    def get_response(response_id: str, caller: Caller) -> object:
        return stored_responses.get(context, caller.resource.id, response_id).body

    @router.delete("/responses/{response_id}", Action.INFER, "Delete a response", json_reply(_DELETED))
    def delete_response(response_id: str, caller: Caller) -> object:
        """Deletes its text; a conversation cannot be continued through it."""
        stored_responses.delete(context, caller.resource.id, response_id)
        return {"id": response_id, "object": "response", "deleted": True}

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
