"""One visit of a page: who visits, with which query and form, and how the answer is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from luthier.api.services import Services
from luthier.core.models import Principal
from luthier.core.roles import ACTIONS, Action
from luthier.portal.web import addresses
from luthier.portal.web.rendering import Renderer
from luthier.service.context import Context
from luthier.service.tenants import sessions

NO_FORM: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Visit:
    """A signed-in caller's request for one page. `form` has the fields of a POST, the last value of each name."""

    services: Services
    renderer: Renderer
    request: Request
    caller: Principal
    token: str
    form: Mapping[str, str]

    @property
    def context(self) -> Context:
        return self.services.context

    @property
    def resource_id(self) -> str:
        return self.caller.resource.id

    def path_value(self, name: str) -> str:
        """The part of the path of that name."""
        return str(self.request.path_params[name])

    def query(self, name: str, default: str = "") -> str:
        """A parameter of the URL, without blanks around it; `default` if there is none."""
        return self.request.query_params.get(name, default).strip()

    def query_list(self, name: str) -> list[str]:
        """Every value of a parameter that may be repeated, in order, without empty ones."""
        return [value.strip() for value in self.request.query_params.getlist(name) if value.strip()]

    def field(self, name: str) -> str:
        """A field of the form, without blanks around it; empty if there is none."""
        return self.form.get(name, "").strip()

    def may(self, action: Action) -> bool:
        """Whether a role of the caller allows the action: what it does not allow is not offered."""
        return any(action in ACTIONS[role] for role in self.caller.roles)

    def render(self, template: str, **values: object) -> HTMLResponse:
        """The page from a template, with `values` and what every page knows (`visit`, `csrf`, `notice`)."""
        common = {
            "visit": self,
            "csrf": sessions.csrf_token(self.token),
            "base": addresses.portal(self.request),
            "api": addresses.api(self.request),
            "theme": addresses.theme(self.request),
            "notice": self.query("notice"),
        }
        return HTMLResponse(self.renderer.render(template, common | values))

    def fragment(self, template: str, **values: object) -> Response:
        """A part of a page that is polled: 304 without rendering as long as nothing was committed to the database."""
        etag = f'W/"{self.renderer.start}-{self.context.database.version()}"'
        headers = {"etag": etag, "cache-control": "private, no-cache"}
        if self.request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        answer = self.render(template, **values)
        answer.headers.update(headers)
        return answer

    def unchanged(self) -> Response | None:
        """The 304 for a poll that has seen the database's present version, asked before anything is read; else None."""
        etag = f'W/"{self.renderer.start}-{self.context.database.version()}"'
        if self.request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"etag": etag, "cache-control": "private, no-cache"})
        return None

    def redirect(self, path: str, **query: str) -> RedirectResponse:
        """303 to a page of the portal, whose path begins with a slash."""
        asked = f"?{urlencode(query)}" if query else ""
        return RedirectResponse(f"{addresses.portal(self.request)}{path}{asked}", 303)
