"""The portal as an application of its own, mounted at /portal: sign-in, the table of pages, errors as pages."""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from luthier.api.auth import authorization, session_cookie
from luthier.api.services import Services
from luthier.core.errors import LuthierError
from luthier.portal.pages import compare, files, job_changes, job_pages, jobs, new_job, playground, row_editing
from luthier.portal.pages.models import deployment_changes, deployment_pages, export_changes, model_list, model_page
from luthier.portal.pages.settings import audit_page, key_changes, settings_page
from luthier.portal.web import addresses, error_pages, forms, issuer_sign_in, security_headers, sign_in, static_files
from luthier.portal.web.page import Page
from luthier.portal.web.rendering import Renderer, make_renderer
from luthier.portal.web.visit import NO_FORM, Visit

PAGES: tuple[Page, ...] = (
    *jobs.PAGES,
    *new_job.PAGES,
    *files.PAGES,
    *row_editing.PAGES,
    *job_pages.PAGES,
    *job_changes.PAGES,
    *model_list.PAGES,
    *export_changes.PAGES,
    *model_page.PAGES,
    *deployment_changes.PAGES,
    *deployment_pages.PAGES,
    *settings_page.PAGES,
    *key_changes.PAGES,
    *audit_page.PAGES,
    *compare.PAGES,
    *playground.PAGES,
)
"""Every page that needs a session; more specific paths first."""

Handler = Callable[[Request], Awaitable[Response]]


def build(services: Services) -> list[Mount | Route]:
    """The routes for the service's application: the portal at /portal, and / that leads there."""
    static = static_files.load()
    renderer = make_renderer(static, secrets.token_hex(4))
    door = sign_in.SignIn(services, renderer)
    issuer_door = issuer_sign_in.IssuerDoor(services, renderer, door)
    application = Starlette(
        routes=[
            Route("/static/{digest}/{path:path}", static.respond, methods=["GET"]),
            Route("/sign-in", door.show, methods=["GET"]),
            Route("/sign-in", door.enter, methods=["POST"]),
            Route("/sign-in/issuer", issuer_door.leave, methods=["GET"]),
            Route("/sign-in/callback", issuer_door.come_back, methods=["GET"]),
            Route("/sign-out", door.leave, methods=["POST"]),
            Route("/theme", door.choose_theme, methods=["POST"]),
            Route("/", door.to_first_page, methods=["GET"]),
            *(Route(page.path, _handler(page, services, renderer), methods=[page.method]) for page in PAGES),
        ],
        exception_handlers={
            LuthierError: error_pages.handler(renderer),
            HTTPException: error_pages.http_handler(renderer),
            Exception: error_pages.bug_handler(renderer),
        },
    )
    return [
        Mount(addresses.PREFIX, security_headers.SecurityHeaders(application)),
        *(Route(path, door.to_first_page, methods=["GET"]) for path in ("/", addresses.PREFIX)),
    ]


def _handler(page: Page, services: Services, renderer: Renderer) -> Handler:
    """Answers one page: session, right to the action, then form and CSRF token, and only then the page's function."""

    async def respond(request: Request) -> Response:
        """As the API's guarded routes it writes caller, action and route into the state, for the audit trail."""
        token = session_cookie.token_of(request)
        caller = None if token is None else await sign_in.caller_of_session(services, token)
        if caller is None or token is None:
            return sign_in.signed_out(request)
        state = request.scope["state"]
        state |= {"caller": caller, "route": f"{addresses.PREFIX}{page.path}"}
        if page.method == "POST":  # a page that only shows a form changes nothing
            state["action"] = page.action
        visit = state["visit"] = Visit(services, renderer, request, caller, token, NO_FORM)
        if page.action is not None:
            authorization.require(caller, page.action)
        form: Mapping[str, str] = NO_FORM
        if page.method == "POST":
            forms.require_own_origin(request)
            form = await forms.read(request, services.intake)
            forms.require_csrf_token(form, token)
        return await run_in_threadpool(page.answer, replace(visit, form=form))

    return respond
