"""One visit of a page: who visits, with which query and form, and how the answer is made."""

import re
from collections.abc import Callable, Mapping
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
MAX_WORD = 1000
"""Longer than any name or id; the database refuses patterns of 50,000 bytes."""
LIVE_S = 30
"""After so many seconds a polled part is made again though the database is as it was: it may show times."""


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
        """The first MAX_WORD characters of a parameter of the URL, without blanks; `default` if there is none."""
        return self.request.query_params.get(name, default).strip()[:MAX_WORD]

    def query_number(self, name: str) -> int:
        """A parameter that is a whole number of at most 15 digits; 0 without one, and for any other text."""
        text = self.query(name)
        return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else 0

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

    def live(self, template: str, read: Callable[[], Mapping[str, object]]) -> Response:
        """A part of a page that is polled; `read` gives the template's values.

        304 without a query as long as nothing was committed to the database, for LIVE_S at most: times go on. The
        version is taken before the values are read, so a commit in between is seen by the next poll.
        """
        period = int(self.context.now().timestamp() // LIVE_S)
        etag = f'W/"{self.renderer.start}-{self.context.database.version()}-{period}"'
        headers = {"etag": etag, "cache-control": "private, no-cache"}
        if self.request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        answer = self.render(template, **read())
        answer.headers.update(headers)
        return answer

    def redirect(self, path: str, **query: str) -> RedirectResponse:
        """303 to a page of the portal, whose path begins with a slash."""
        asked = f"?{urlencode(query)}" if query else ""
        return RedirectResponse(f"{addresses.portal(self.request)}{path}{asked}", 303)
