"""Errors as pages: what went wrong, what to do, and the request's id."""

from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from luthier.api.dialects.error_answers import status_of
from luthier.core.errors import LuthierError
from luthier.portal.web import addresses
from luthier.portal.web.rendering import Renderer
from luthier.portal.web.visit import Visit

Handler = Callable[[Request, Exception], Awaitable[Response]]
_TITLES = {401: "Signed out", 403: "Not allowed", 404: "Not found", 409: "Not possible now", 429: "Too much at once"}


def handler(renderer: Renderer) -> Handler:
    """The handler of LuthierError: its message as a page."""

    async def show(request: Request, error: Exception) -> Response:
        """The page has the status of the error's class."""
        assert isinstance(error, LuthierError)
        text = error.message
        if error.code == "role_not_sufficient":  # the API's words are for whoever writes a program
            text = "Your role does not allow this. An owner of this resource can give you a key with another role."
        return _page(renderer, request, status_of(error), text, error.code)

    return show


def http_handler(renderer: Renderer) -> Handler:
    """The handler of the framework's errors: a path that no page has, or a method that it does not take."""

    async def show(request: Request, error: Exception) -> Response:
        """The page has the framework's status, and the methods that a path takes."""
        assert isinstance(error, HTTPException)
        text, code = (
            "There is no such page. It may have been deleted, or the address is not complete.",
            "page_not_found",
        )
        if error.status_code == 405:
            text, code = "This page does not take that method.", "method_not_allowed"
        page = _page(renderer, request, error.status_code, text, code)
        page.headers.update(error.headers or {})
        return page

    return show


def bug_handler(renderer: Renderer) -> Handler:
    """The handler of every other exception: a page that tells only the request's id, by which the log has the rest."""

    async def show(request: Request, error: Exception) -> Response:
        """Status 500. The application around the portal logs the exception's class."""
        text = "Something went wrong here. The service's log has the reason under the request id below."
        return _page(renderer, request, 500, text, "internal_error")

    return show


def _page(renderer: Renderer, request: Request, status: int, message: str, code: str) -> Response:
    """The page of an error; it needs no session, so its navigation is the signed-out one if there is none."""
    values = {
        "visit": None,
        "base": addresses.portal(request),
        "api": addresses.api(request),
        "theme": addresses.theme(request),
        "notice": "",
        "title": _TITLES.get(status, "That did not work"),
        "message": message,
        "code": code,
        "status": status,
        "request_id": request.scope.get("state", {}).get("request_id", "-"),
        "back": _own_referer(request, "settings" if status == 403 else ""),
    }
    visit: Visit | None = request.scope.get("state", {}).get("visit")
    if visit is None:
        return HTMLResponse(renderer.render("error.html", values), status)
    del values["visit"]
    page = visit.render("error.html", **values)
    page.status_code = status
    return page


def _own_referer(request: Request, other: str) -> str:
    """The path of the page before, if it is one of the portal's; else that of the page `other`."""
    referer = request.headers.get("referer", "")
    origin = f"{request.url.scheme}://{request.headers.get('host', '')}"
    base = addresses.portal(request)
    path = referer.removeprefix(origin)
    return path if path.startswith(f"{base}/") and "sign-in" not in path else f"{base}/{other}"
