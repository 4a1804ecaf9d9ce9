"""The audit trail: who changed what, newest first, in pages, by action."""

import re
from datetime import datetime
from urllib.parse import urlencode

from starlette.responses import Response

from luthier.core.roles import Action, Role
from luthier.portal.web.page import Page, get
from luthier.portal.web.visit import Visit
from luthier.service.tenants import audit, keys

PAGE_ROWS = 50
OTHER_ACTIONS = ("quotas/write",)
"""What only commands on the data folder write."""


def show(visit: Visit) -> Response:
    """The entries of the caller's resource; an owner of the default one, who owns the machine, sees all of them."""
    sees_all = visit.resource_id == keys.DEFAULT_RESOURCE.id and Role.OWNER in visit.caller.roles
    actions = sorted({*(str(action) for action in Action if action.is_change), *OTHER_ACTIONS})
    action = visit.query("action")
    before = visit.query("before")
    found = audit.read_newest(
        visit.context.audit_file,
        None if sees_all else visit.caller.resource.account,
        action if action in actions else None,
        int(before) if re.fullmatch(r"[0-9]{1,15}", before) else None,
        PAGE_ROWS,
    )
    query = {"action": action} if action in actions else {}
    return visit.render(
        "audit.html",
        entries=[(one, _time(one.at)) for one in found.entries],
        sees_all=sees_all,
        actions=actions,
        action=action,
        is_filtered=bool(query or before),
        first_url=f"/settings/audit?{urlencode(query)}" if before else "",
        next_url="" if found.before is None else f"/settings/audit?{urlencode(query | {'before': found.before})}",
    )


def _time(text: str) -> datetime | None:
    """The time of an entry; None for a text that is none, as a line written by hand may have."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


PAGES: tuple[Page, ...] = (get("/settings/audit", Action.RESOURCES_READ, show),)
