"""Middleware that traces the calls of models, one span each; part of the application only where traces are on."""

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier.core.ports import SpanSource
from luthier.service.inference import answer_spans
from luthier.service.inference.answer_spans import CallSpan

_OPERATIONS = (
    (re.compile(r".*/chat/completions"), "chat"),
    (re.compile(r".*/responses"), "chat"),
    (re.compile(r".*/completions"), "text_completion"),
    (re.compile(r".*/embeddings"), "embeddings"),
)
"""The operation's name in the conventions, by the end of the path."""


class CallSpans:
    """Begins a span for each POST to a model; ends it with the last byte of the answer, or when the caller leaves."""

    def __init__(self, app: ASGIApp, source: SpanSource) -> None:
        self._app = app
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, the span in `answer_spans.current`."""
        operation = _operation(scope)
        if operation is None:
            await self._app(scope, receive, send)
            return
        span = self._source.begin(operation, Headers(scope=scope))
        call, status = CallSpan(span, operation), 0
        _describe(call, scope)

        async def send_traced(message: Message) -> None:
            """Sends a part of the answer: notes the status of its head, and ends the span before the last part."""
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                span.set("http.response.status_code", status)
            elif not message.get("more_body", False):
                span.end(failed=status >= 500)
            await send(message)

        token = answer_spans.current.set(call)
        try:
            await self._app(scope, receive, send_traced)
        except BaseException as error:
            span.set("error.type", type(error).__qualname__)
            raise
        finally:
            answer_spans.current.reset(token)
            span.end(failed=True)  # the caller left, unless it has ended above


def _operation(scope: Scope) -> str | None:
    """The operation of a request; None for one that calls no model."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    return next((name for pattern, name in _OPERATIONS if pattern.fullmatch(scope["path"])), None)


def _describe(call: CallSpan, scope: Scope) -> None:
    """Says what is known before the request is read: our address, and the id that the log and the caller have."""
    call.span.set("gen_ai.operation.name", call.operation)
    call.span.set("gen_ai.provider.name", answer_spans.PROVIDER)
    call.span.set("luthier.request_id", str(scope.get("state", {}).get("request_id", "-")))
    if (server := scope.get("server")) is not None:
        call.span.set("server.address", server[0])
        if server[1] is not None:
            call.span.set("server.port", server[1])
