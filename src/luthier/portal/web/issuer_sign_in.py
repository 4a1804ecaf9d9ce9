"""Signing in at the issuer of OpenID Connect: the way there, and the way back with a code.

What the browser has to bring back is in a cookie of ten minutes, signed, HttpOnly and SameSite=Lax: a strict one would
not come with the redirect from the issuer's site. For the same reason the session's own strict cookie would not come
with a further redirect, so the way back ends in a page of ours that goes on by itself.
"""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from luthier.api.auth import authentication, session_cookie
from luthier.api.http import thread_pools
from luthier.api.http.thread_pools import Workers
from luthier.api.services import Services
from luthier.core.errors import LuthierError, NotFound
from luthier.core.ports import IssuerSignIn, SignInAttempt
from luthier.portal.web import addresses
from luthier.portal.web.rendering import Renderer
from luthier.portal.web.sign_in import SignIn
from luthier.service.tenants import sessions
from luthier.service.webhooks import signing_secrets

NAME = "luthier_sign_in"
SECURE_NAME = f"__Host-{NAME}"
LIFETIME_S = 600
_LATE = "The sign-in took longer than ten minutes, or began in another browser. Sign in again."


@dataclass(frozen=True, slots=True)
class IssuerDoor:
    """The two addresses of a sign-in at the issuer; 404 where none is configured.

    Cookies are signed by a key of the data folder: who comes back to another process goes on there.
    """

    services: Services
    renderer: Renderer
    door: SignIn

    async def leave(self, request: Request) -> Response:
        """Sends the browser to the issuer, with a cookie that it has to bring back."""
        next_path = request.query_params.get("next", "")
        begin = partial(self._issuer().begin, _own_address(request))
        try:
            attempt, address = await thread_pools.run(Workers.TOKENS, begin)
            key = await run_in_threadpool(self._key)
        except LuthierError as error:
            return self.door.form(request, next_path, None, 503, issuer_problem=error.message)
        response = RedirectResponse(address, 303)
        is_secure = request.url.scheme == "https"
        response.set_cookie(
            SECURE_NAME if is_secure else NAME,
            self._sealed(key, attempt, next_path),
            max_age=LIFETIME_S,
            path="/",
            secure=is_secure,
            httponly=True,
            samesite="lax",
        )
        return response

    async def come_back(self, request: Request) -> Response:
        """Exchanges the code for a token, begins a session, and shows the page that goes on to what was asked for."""
        issuer, context = self._issuer(), self.services.context
        key = await run_in_threadpool(self._key)
        opened = self._opened(key, request.cookies.get(SECURE_NAME) or request.cookies.get(NAME) or "")
        if opened is None:
            return self._refused(request, "", _LATE)
        attempt, next_path = opened
        finish = partial(issuer.finish, attempt, dict(request.query_params), _own_address(request))
        try:
            token = await thread_pools.run(Workers.TOKENS, finish)
            caller = await authentication.caller_of(context, [token])
            session = await run_in_threadpool(sessions.create, context, caller, token)
        except LuthierError as error:
            return self._refused(request, next_path, error.message)
        asked = addresses.own_path(next_path)
        target = addresses.first_page(caller) if asked == f"{addresses.PREFIX}/jobs" else asked
        values = {
            "visit": None,
            "base": addresses.portal(request),
            "api": addresses.api(request),
            "theme": addresses.theme(request),
            "notice": "",
            "target": addresses.api(request) + target,
        }
        response = HTMLResponse(self.renderer.render("signed_in.html", values))
        session_cookie.set_on(response, request, session)
        _forget(response)
        return response

    def _issuer(self) -> IssuerSignIn:
        """What signs people in. Raises NotFound where the settings name no client."""
        if self.services.context.issuer is None:
            raise NotFound("no_issuer", "This installation has no issuer to sign in at. Sign in with an API key.")
        return self.services.context.issuer

    def _refused(self, request: Request, next_path: str, problem: str) -> Response:
        """The sign-in page with what went wrong; the attempt is over."""
        response = self.door.form(request, next_path, None, 401, issuer_problem=problem)
        _forget(response)
        return response

    def _key(self) -> bytes:
        """What signs the cookies. For a thread: it reads a file, which the first sign-in of all creates."""
        return signing_secrets.derived_key(self.services.context, "cookie of a sign-in at the issuer")

    def _sealed(self, key: bytes, attempt: SignInAttempt, next_path: str) -> str:
        """The cookie's text: the attempt, where to go on to, and when it ends, signed."""
        ends_at = int(self.services.context.now().timestamp()) + LIFETIME_S
        content = [attempt.state, attempt.nonce, attempt.verifier, next_path[:1000], ends_at]
        text = base64.urlsafe_b64encode(json.dumps(content).encode()).decode()
        return f"{text}.{_signature(key, text)}"

    def _opened(self, key: bytes, cookie: str) -> tuple[SignInAttempt, str] | None:
        """The attempt in a cookie and where to go on to; None for a cookie that is not ours, or too old."""
        text, _, signature = cookie.partition(".")
        if not hmac.compare_digest(_signature(key, text).encode(), signature.encode()):
            return None
        state, nonce, verifier, next_path, ends_at = json.loads(base64.urlsafe_b64decode(text))
        if ends_at <= self.services.context.now().timestamp():
            return None
        return SignInAttempt(state, nonce, verifier), next_path


def _signature(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _own_address(request: Request) -> str:
    """Where the issuer sends the browser back to, as the browser sees this service."""
    return f"{request.url.scheme}://{request.url.netloc}{addresses.portal(request)}/sign-in/callback"


def _forget(response: Response) -> None:
    """Has the browser forget the attempt: it is good once."""
    response.delete_cookie(NAME, path="/", httponly=True, samesite="lax")
    response.delete_cookie(SECURE_NAME, path="/", secure=True, httponly=True, samesite="lax")
