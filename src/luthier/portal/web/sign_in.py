"""Signing in with an API key or a token, signing out, and the choice of light or dark."""

from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from luthier.api.auth import authentication, session_cookie
from luthier.api.services import Services
from luthier.core.errors import LuthierError, Unauthenticated
from luthier.core.models import Principal
from luthier.portal.web import addresses, forms
from luthier.portal.web.rendering import Renderer
from luthier.service.tenants import sessions

FRAGMENT_HEADER = "x-portal-fragment"
"""Sent by the script that polls parts of a page."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """The pages that need no session."""

    services: Services
    renderer: Renderer

    async def show(self, request: Request) -> Response:
        """The form, or the first page for whoever is signed in already."""
        return self.form(request, request.query_params.get("next", ""), None)

    async def enter(self, request: Request) -> Response:
        """Checks the key; a session begins, and the browser goes on to the page that was asked for."""
        forms.require_own_origin(request)
        form = await forms.read(request, self.services.intake)
        presented, next_path = form.get("key", "").strip(), form.get("next", "")
        if not presented:
            return self.form(request, next_path, "Enter a key.", 400)
        if sessions.is_token(presented):
            return self.form(request, next_path, "That is no API key.", 401)
        context = self.services.context
        try:
            caller = await authentication.caller_of(context, [presented])
        except LuthierError as error:
            text = error.message
            if error.code == "invalid_api_key":
                text = "This key opens nothing here. Check that it is whole, or ask whoever gave it to you for another."
            return self.form(request, next_path, text, 401)
        token = await run_in_threadpool(sessions.create, context, caller, presented)
        if (before := session_cookie.token_of(request)) is not None:
            await run_in_threadpool(sessions.end, context, before)
        asked = addresses.own_path(next_path)
        target = addresses.first_page(caller) if asked == f"{addresses.PREFIX}/jobs" else asked
        response = RedirectResponse(addresses.api(request) + target, 303)
        session_cookie.set_on(response, request, token)
        return response

    async def leave(self, request: Request) -> Response:
        """Ends the session; the cookie is removed whether there was one or not."""
        forms.require_own_origin(request)
        form = await forms.read(request, self.services.intake)
        token = session_cookie.token_of(request)
        if token is not None:
            forms.require_csrf_token(form, token)
            await run_in_threadpool(sessions.end, self.services.context, token)
        response = RedirectResponse(f"{addresses.portal(request)}/sign-in", 303)
        session_cookie.remove_from(response)
        return response

    async def choose_theme(self, request: Request) -> Response:
        """Stores light, dark or the system's choice in a cookie, and goes back to the page."""
        forms.require_own_origin(request)
        form = await forms.read(request, self.services.intake)
        chosen = form.get("theme", "")
        back = request.headers.get("referer", "")
        path = back if back.startswith(f"{request.url.scheme}://{request.headers.get('host', '')}/") else ""
        response = RedirectResponse(path or f"{addresses.portal(request)}/", 303)
        response.set_cookie(addresses.THEME_COOKIE, chosen if chosen in addresses.THEMES else "", samesite="strict")
        return response

    async def to_first_page(self, request: Request) -> Response:
        """Leads to the first page that the visitor's roles allow; without a session to the sign-in page."""
        token = session_cookie.token_of(request)
        root = str(request.scope.get("root_path", "")).removesuffix(addresses.PREFIX)
        caller = None if token is None else await caller_of_session(self.services, token)
        target = f"{addresses.PREFIX}/jobs" if caller is None else addresses.first_page(caller)
        return RedirectResponse(f"{root}{target}", 303)

    def form(
        self, request: Request, next_path: str, problem: str | None, status: int = 200, issuer_problem: str = ""
    ) -> Response:
        """The page with the form, and what was wrong with the last try, by key or at the issuer."""
        issuer = self.services.context.issuer
        values = {
            "visit": None,
            "base": addresses.portal(request),
            "api": addresses.api(request),
            "theme": addresses.theme(request),
            "notice": "",
            "next": next_path,
            "problem": problem,
            "issuer_host": "" if issuer is None else issuer.host,
            "issuer_problem": issuer_problem,
            "was_signed_out": "ended" in request.query_params,
            "takes_tokens": self.services.context.tokens is not None,
        }
        return HTMLResponse(self.renderer.render("sign_in.html", values), status)


async def caller_of_session(services: Services, token: str) -> Principal | None:
    """Who is signed in with the session's token; None if it has ended."""
    try:
        return await authentication.caller_of(services.context, [token])
    except Unauthenticated:
        return None


def signed_out(request: Request) -> Response:
    """The answer without a session: the sign-in page, which leads back; 401 for a script."""
    if FRAGMENT_HEADER in request.headers:
        return Response("signed out", 401, media_type="text/plain")
    asked = request.url.path.removeprefix(addresses.api(request))
    if request.method != "GET":  # the form's text is lost, so the page that had it is no use either
        asked = f"{addresses.PREFIX}/jobs"
    elif request.url.query:
        asked += f"?{request.url.query}"
    query = {"next": asked} | ({} if session_cookie.token_of(request) is None else {"ended": "1"})
    return RedirectResponse(f"{addresses.portal(request)}/sign-in?{urlencode(query)}", 303)
