"""Where the portal and the API are, as a browser sees them: also behind a proxy that adds a prefix."""

from starlette.requests import Request

from luthier.core.models import Principal
from luthier.core.roles import ACTIONS, Action

PREFIX = "/portal"
THEME_COOKIE = "luthier_theme"
THEMES = ("light", "dark")


def portal(request: Request) -> str:
    """The path of the portal, without a slash at its end; inside of its application the root path ends with it."""
    return str(request.scope.get("root_path", "")).removesuffix("/")


def api(request: Request) -> str:
    """What stands before the API's own paths: empty without a proxy's prefix."""
    return portal(request).removesuffix(PREFIX)


def theme(request: Request) -> str:
    """The visitor's choice of light or dark; empty: as the system is."""
    chosen = request.cookies.get(THEME_COOKIE, "")
    return chosen if chosen in THEMES else ""


def first_page(caller: Principal) -> str:
    """The page that a caller begins at: the first of the navigation that its roles may see; settings are for all."""
    allowed = {action for role in caller.roles for action in ACTIONS[role]}
    if Action.JOBS_READ in allowed:
        return f"{PREFIX}/jobs"
    return f"{PREFIX}/playground" if Action.INFER in allowed else f"{PREFIX}/settings"


def own_path(path: str) -> str:
    """A path to go on to after signing in, if it is one of the portal's own; else the first page."""
    parts = path.partition("?")[0].split("/")
    is_own = path.startswith(f"{PREFIX}/") and "//" not in path and "\\" not in path and ".." not in parts
    return path if is_own else f"{PREFIX}/jobs"
