"""/responses: an answer of a model with its items, complete, streamed or in the background; stored, to be continued."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from luthier.api.auth import authentication
from luthier.api.dialects.dialects import Dialect
from luthier.api.dialects.inference.response_answers import ResponseWriter
from luthier.api.http.disconnects import EventStream
from luthier.api.requests.responses.response_bodies import ResponseBody, TokenCountBody
from luthier.api.routes.inference import background_responses, response_calls
from luthier.api.routes.inference.answer_stream import WITHOUT_EFFECT, InferenceEndpoint
from luthier.api.routes.inference.background_responses import BackgroundResponses
from luthier.api.routes.inference.call_rate import CallRate
from luthier.api.routing import chat_schemas, response_schemas
from luthier.api.routing.operation import JSON, SSE, Details, EventStreamOf, Reply, json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest
from luthier.core.inference.stored_responses import ResponseStatus, StoredResponse
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.service.inference import model_routing
from luthier.service.responses import stored_responses
from luthier.service.tenants.rate_limits import estimate

_SUMMARY = "Create a response; with stream=true as server-sent events"
_REPLY = Reply(
    content={JSON: response_schemas.response(), SSE: EventStreamOf(response_schemas.event())},
    headers=(*chat_schemas.RATE_LIMIT_HEADERS, WITHOUT_EFFECT),
)
_DETAILS: Details = {**chat_schemas.INFERENCE, "example": response_schemas.EXAMPLE}


def add_routes(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the dialect's routes of new responses."""
    Caller = Annotated[Principal, Depends(authentication.require_key(services.context))]
    endpoint = InferenceEndpoint(dialect, services)

    @router.post("/responses", Action.INFER, _SUMMARY, _REPLY, **_DETAILS)
    async def create_response(request: Request, body: ResponseBody, caller: Caller) -> Response:
        """`model` names a deployment, or in OpenAI's dialect a model.

        A response is stored for 30 days unless `store` is false; a later one continues it by `previous_response_id`.
        With `background` it is answered at once, and generated while nobody waits: get it by its id.
        """
        if body.model is None:
            raise InvalidRequest("missing_model", "model is missing; name a deployment or a model in it.", "model")
        with response_calls.errors_renamed():
            if body.background:
                return await _begin(services, dialect, request, caller, body)
            call = await run_in_threadpool(response_calls.response_call, services.context, caller.resource.id, body)
            return await endpoint.respond(request, caller, body.model, call)

    @router.post(
        "/responses/input_tokens",
        Action.INFER,
        "Count the tokens that a response would read",
        json_reply(response_schemas.token_count()),
        **chat_schemas.INFERENCE,
    )
    async def count_input_tokens(body: TokenCountBody, caller: Caller) -> Response:
        """Of the whole conversation, as the model's own chat template renders it."""
        if body.model is None:
            raise InvalidRequest("missing_model", "model is missing; name a deployment or a model in it.", "model")
        with response_calls.errors_renamed():
            request = await run_in_threadpool(response_calls.chat_to_count, services.context, caller.resource.id, body)
            target = await run_in_threadpool(
                model_routing.find, services.context, caller.resource.id, body.model, dialect.calls_models
            )
            route = await model_routing.route(services.serving, caller.resource.id, target)
            n_tokens = await services.generation.count_tokens(route, request)
        return JSONResponse({"object": "response.input_tokens", "input_tokens": n_tokens})


async def _begin(
    services: Services, dialect: Dialect, request: Request, caller: Principal, body: ResponseBody
) -> Response:
    """Stores a response in the background and lets it be generated; its body, or its events with `stream`.

    Raises what a response that is waited for would: for the body, the model's name, and the rate limit.
    """
    background: BackgroundResponses = request.app.state.background_responses
    response = await run_in_threadpool(_queued, services, dialect, request, caller, body)
    announced = list(ResponseWriter.announced(response.body)) if body.stream else []
    background.start(response.id, response.resource_id, announced)
    headers = {WITHOUT_EFFECT: ", ".join(body.without_effect())} if body.without_effect() else {}
    events = background.follow(response.id, -1) if body.stream else None
    if events is None:
        return JSONResponse(response.body, headers=headers)
    return EventStream(background_responses.while_authorized(services, request, events), headers)


def _queued(
    services: Services, dialect: Dialect, request: Request, caller: Principal, body: ResponseBody
) -> StoredResponse:
    """Checks a response in the background as far as it can be without its model, and stores it. Raises as `_begin`."""
    context, resource_id = services.context, caller.resource.id
    body.check()
    if not context.responses_kept_for:
        raise InvalidRequest("invalid_value", "this service stores no responses; leave it out.", "background")
    hex32 = context.new_hex()
    earlier = [dict(item) for item in stored_responses.earlier_items(context, resource_id, body.previous_response_id)]
    items = response_calls.stored_items(context, resource_id, body, hex32, earlier)
    chat = body.chat_request(earlier, items)
    target = model_routing.find(context, resource_id, str(body.model), dialect.calls_models)
    CallRate(services, request, caller, target).admit(
        estimate(response_calls.characters(chat), 0, body.max_output_tokens, 1)
    )
    writer = ResponseWriter(hex32, body.settings(), body.log_probs, context.now)
    writer.body |= {"status": str(ResponseStatus.QUEUED), "model": target.model.canonical_name}
    sent = {
        "body": body.model_dump(mode="json", by_alias=True, exclude_none=True),
        "calls_models": dialect.calls_models,
    }
    response = response_calls.stored(context, resource_id, body, items, writer.body, sent)
    stored_responses.keep(context, response, services.process)
    return response
