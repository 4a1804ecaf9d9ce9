"""A form's body: where it may come from, how long it may be, and its fields."""

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request

from luthier.api.intake.body_limits import Intake
from luthier.api.intake.body_stream import BodyReader
from luthier.core.errors import Forbidden, InvalidRequest
from luthier.service.tenants import sessions

MAX_BYTES = 1024 * 1024
MAX_FIELDS = 1000
CSRF_FIELD = "csrf"


async def read(request: Request, intake: Intake) -> Mapping[str, str]:
    """The fields of a form, the last value of each name. Raises TooLarge, TooSlow, and InvalidRequest for no form."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise InvalidRequest("no_form", "The portal's pages send forms; programs use the API, which /docs describes.")
    reader = BodyReader(request, MAX_BYTES, intake.limits)
    content = bytearray()
    while chunk := await reader.chunk():
        content += chunk
    try:
        return dict(parse_qsl(content.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError as error:
        raise InvalidRequest("invalid_form", "The form cannot be read: send it from the page again.") from error


def require_own_origin(request: Request) -> None:
    """Raises Forbidden for a request that a browser says another site's page has sent."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    host = request.headers.get("host", "")
    if site not in ("same-origin", "none") or (origin is not None and _host(origin) != host):
        raise Forbidden("other_site", "This form was sent by a page of another site, so nothing was done.")


def _host(origin: str) -> str | None:
    """Host and port of an origin; None for a text that is no URL."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def require_csrf_token(form: Mapping[str, str], token: str) -> None:
    """Raises Forbidden unless the form has the CSRF token of the session with that token."""
    if not sessions.is_csrf_token(token, form.get(CSRF_FIELD, "")):
        text = "The page is older than your session, so nothing was done. Reload it and try again."
        raise Forbidden("csrf_token", text)
