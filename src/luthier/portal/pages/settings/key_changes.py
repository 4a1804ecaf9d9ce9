"""Keys made, regenerated and revoked. A new key is shown once, on the page that answers the form, and nowhere else."""

from starlette.responses import Response

from luthier.core import roles
from luthier.core.errors import Conflict, InvalidRequest
from luthier.core.roles import Action
from luthier.portal.pages.settings import settings_page
from luthier.portal.web.page import Page, post
from luthier.portal.web.visit import Visit
from luthier.service.tenants import keys


def create(visit: Visit) -> Response:
    """A named key with a role. What is wrong with the form is shown at its field."""
    name, role = visit.field("name"), roles.by_name(visit.field("role"))
    values = {"name": name, "role": visit.field("role")}
    if role is None:
        return settings_page.render(visit, values, {"role": "Choose a role from the list."}, 400)
    try:
        key = keys.create(visit.context, visit.resource_id, name, role)
    except InvalidRequest as error:
        return settings_page.render(visit, values, {"name": error.message}, 400)
    except Conflict as error:
        return settings_page.render(visit, values, {"name": error.message}, 409)
    visit.request.path_params["name"] = name  # what the audit line says was changed
    return _shown(visit, name, key, is_replaced=False)


def regenerate(visit: Visit) -> Response:
    """A new key in place of the old one, which opens nothing from then on; the role stays."""
    name = visit.path_value("name")
    known = {key.name for key in keys.list_all(visit.context, visit.resource_id)}
    key = keys.regenerate(visit.context, visit.resource_id, name)
    return _shown(visit, name, key, is_replaced=name in known)


def revoke(visit: Visit) -> Response:
    """The key opens nothing any more, and sessions that began with it end."""
    keys.revoke(visit.context, visit.resource_id, visit.path_value("name"))
    return visit.redirect("/settings", notice="key_revoked")


def _shown(visit: Visit, name: str, key: str, is_replaced: bool) -> Response:
    """The page with the new key; it is in no address, and no cache keeps it."""
    is_own = is_replaced and name == visit.caller.key_name
    is_first = (visit.resource_id, name) == (keys.DEFAULT_RESOURCE.id, keys.FIRST_KEY_NAME)
    return visit.render(
        "key_shown.html", name=name, key=key, is_replaced=is_replaced, is_own=is_own, is_in_file=is_first
    )


PAGES: tuple[Page, ...] = (
    post("/settings/keys", Action.KEYS_WRITE, create),
    post("/settings/keys/{name}/regenerate", Action.KEYS_WRITE, regenerate),
    post("/settings/keys/{name}/revoke", Action.KEYS_WRITE, revoke),
)
