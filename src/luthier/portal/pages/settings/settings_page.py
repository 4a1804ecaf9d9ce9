"""Settings: who is signed in, quotas, keys by name, the resource, the machine; of each only what the role may see."""

from collections.abc import Mapping

from starlette.responses import Response

from luthier.api.arm import arm_names
from luthier.core.roles import ACTIONS, Action, Role
from luthier.portal.views.settings import quota_bars
from luthier.portal.web.page import Page, get
from luthier.portal.web.visit import Visit
from luthier.service import status
from luthier.service.tenants import keys, quotas, resources

NO_VALUES: Mapping[str, str] = {"name": "", "role": Role.OPENAI_USER}


def show(visit: Visit) -> Response:
    """The page, its form of a new key empty."""
    return render(visit, NO_VALUES, {})


def render(visit: Visit, values: Mapping[str, str], problems: Mapping[str, str], status_code: int = 200) -> Response:
    """The page, with what was entered for a new key and what is wrong with it by field."""
    answer = visit.render(
        "settings.html",
        values=values,
        problems=problems,
        roles=sorted(visit.caller.roles),
        all_roles={str(role): _words(role) for role in Role},
        **_quotas(visit),
        **_keys(visit),
        **_resource(visit),
        **_machine(visit),
    )
    answer.status_code = status_code
    return answer


def _quotas(visit: Visit) -> dict[str, object]:
    """The quotas of the caller's resource, as GET .../usages has them."""
    if not visit.may(Action.USAGES_READ):
        return {"bars": None}
    return {"bars": [quota_bars.bar(usage) for usage in quotas.usages(visit.context, visit.resource_id)]}


def _keys(visit: Visit) -> dict[str, object]:
    """The names of the resource's keys, which POST .../listKeys tells too, and those that are still to be made."""
    if not visit.may(Action.KEYS_READ):
        return {"keys": None, "missing": []}
    found = keys.list_all(visit.context, visit.resource_id)
    names = {key.name for key in found}
    return {"keys": found, "missing": [name for name in keys.ACCOUNT_KEYS if name not in names]}


def _resource(visit: Visit) -> dict[str, object]:
    """The caller's own resource, as GET .../accounts/NAME has it."""
    if not visit.may(Action.RESOURCES_READ):
        return {"resource": None}
    own = visit.caller.resource
    return {
        "resource": own,
        "resource_created_at": resources.created_at(visit.context, own.id),
        "resource_path": arm_names.id_of(own),
    }


def _machine(visit: Visit) -> dict[str, object]:
    """What GET /luthier/status says."""
    if not visit.may(Action.MODELS_READ):
        return {"machine": None}
    return {"machine": status.describe(visit.context, visit.caller, visit.services.train_device)}


def _words(role: Role) -> str:
    """What a role may do, in a few words."""
    allowed = ACTIONS[role]
    parts = [
        ("everything", allowed == frozenset(Action)),
        ("call models", Action.INFER in allowed),
        ("tune and deploy", Action.JOBS_WRITE in allowed),
        ("see models and deployments", Action.MODELS_READ in allowed and Action.JOBS_WRITE not in allowed),
        ("manage keys", Action.KEYS_WRITE in allowed),
        ("see quotas", Action.USAGES_READ in allowed),
    ]
    told = [words for words, holds in parts if holds]
    return told[0] if told[0] == "everything" else ", ".join(told)


PAGES: tuple[Page, ...] = (get("/settings", None, show),)
