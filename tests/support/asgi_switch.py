"""One server for every test: the application behind it is exchanged, which costs less than a new server."""

from starlette.types import ASGIApp, Receive, Scope, Send


class Switch:
    """An ASGI application that is another one in each test: one server then does for all of them."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        await self.app(scope, receive, send)
