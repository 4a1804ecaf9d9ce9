"""Which action each route is, and who may do it: one table, asked by the dependency that finds the caller."""

import re
from collections.abc import Iterable

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

from luthier.core import roles
from luthier.core.errors import Forbidden
from luthier.core.models import Principal
from luthier.core.roles import ACTIONS, Action

# A route is written without its dialect's prefix and without the names of its parameters; one that no dialect has (yet)
# does no harm here. A route that is missing here is refused at the start of the service.
_ROUTES: dict[Action, tuple[str, ...]] = {
    Action.INFER: ("POST /chat/completions", "POST /completions"),
    Action.FILES_READ: (
        "GET /files",
        "GET /files/{}",
        "GET /files/{}/content",
        "GET /files/{}/report",
        "GET /uploads/{}",
    ),
    Action.FILES_WRITE: (
        "POST /files",
        "POST /files/import",
        "DELETE /files/{}",
        "POST /uploads",
        "POST /uploads/{}/parts",
        "POST /uploads/{}/complete",
        "POST /uploads/{}/cancel",
    ),
    Action.JOBS_READ: (
        "GET /fine_tuning/jobs",
        "GET /fine_tuning/jobs/{}",
        "GET /fine_tuning/jobs/{}/events",
        "POST /fine_tuning/jobs/{}/events",
        "GET /fine_tuning/jobs/{}/checkpoints",
        "POST /fine_tuning/jobs/{}/checkpoints",
        "GET /fine_tuning/jobs/{}/attempts",
        "GET /fine_tuning/jobs/{}/checkpoints/{}/copy",
        "GET /fine_tuning/checkpoints/{}/permissions",
        "GET /fine-tunes",
        "GET /fine-tunes/{}",
        "GET /fine-tunes/{}/events",
    ),
    Action.JOBS_WRITE: (
        "POST /fine_tuning/jobs",
        "POST /fine_tuning/jobs/{}/cancel",
        "POST /fine_tuning/jobs/{}/pause",
        "POST /fine_tuning/jobs/{}/resume",
        "DELETE /fine_tuning/jobs/{}",
        "POST /fine-tunes",
        "POST /fine-tunes/{}/cancel",
        "DELETE /fine-tunes/{}",
    ),
    Action.MODELS_READ: ("GET /models", "GET /models/{}", "GET /accounts/{}/models", "GET /locations/{}/models"),
    Action.MODELS_WRITE: (
        "DELETE /models/{}",
        "POST /fine_tuning/jobs/{}/checkpoints/{}/copy",
        "POST /fine_tuning/checkpoints/{}/permissions",
        "DELETE /fine_tuning/checkpoints/{}/permissions/{}",
    ),
    Action.DEPLOYMENTS_READ: (
        "GET /deployments",
        "GET /deployments/{}",
        "GET /accounts/{}/deployments",
        "GET /accounts/{}/deployments/{}",
        "GET /accounts/{}/deployments/{}/skus",
        "GET /accounts/{}/skus",
        "GET /skus",
        "GET /locations/{}/operationResults/{}",
        "GET /locations/{}/operations/{}",
    ),
    Action.DEPLOYMENTS_WRITE: (
        "POST /deployments",
        "PUT /deployments/{}",
        "PATCH /deployments/{}",
        "DELETE /deployments/{}",
        "POST /accounts/{}/deployments/{}",
        "PUT /accounts/{}/deployments/{}",
        "PATCH /accounts/{}/deployments/{}",
        "DELETE /accounts/{}/deployments/{}",
    ),
    Action.RESOURCES_READ: ("GET /accounts", "GET /accounts/{}"),
    Action.RESOURCES_WRITE: ("PUT /accounts/{}", "PATCH /accounts/{}", "DELETE /accounts/{}"),
    Action.KEYS_READ: ("POST /accounts/{}/listKeys",),
    Action.KEYS_WRITE: ("POST /accounts/{}/regenerateKey",),
    Action.USAGES_READ: ("GET /accounts/{}/usages", "GET /locations/{}/usages"),
}
_ACTIONS = {route: action for action, routes in _ROUTES.items() for route in routes}
PUBLIC = frozenset({"/healthz", "/readyz", "/openapi.json", "/docs", "/docs/assets"})
"""Routes that need no key."""

_PARAMETER = re.compile(r"\{[^{}]*\}")
_PREFIX = re.compile(
    r"/openai/v1(?=/)|/openai(?=/)|/v1(?=/)"
    r"|/subscriptions/\{\}(/resourceGroups/\{\})?/providers/Microsoft\.CognitiveServices(?=/)",
    re.IGNORECASE,
)
# Older SDKs put a deployment's name before any path: what follows is the same route (contract section 2.1).
_NAMED = re.compile(r"/(deployments|engines)/\{\}(?=/)")


def action_of(method: str, path: str) -> Action | None:
    """The action behind a route's method and path template; None for a route that the table does not have."""
    path = _PARAMETER.sub("{}", path)
    path = _PREFIX.sub("", path, count=1) if _PREFIX.match(path) else path
    path = _NAMED.sub("", path, count=1) if _NAMED.match(path) else path
    return _ACTIONS.get(f"{'GET' if method == 'HEAD' else method} {path}")


def check_routes(routes: Iterable[BaseRoute]) -> None:
    """Refuses to start with a route that the table does not have. Raises RuntimeError that names all of them."""
    missing = [f"{method} {path}" for method, path in protected(routes) if action_of(method, path) is None]
    if missing:
        raise RuntimeError(f"these routes have no action in api/permissions.py: {', '.join(missing)}")


def protected(routes: Iterable[BaseRoute]) -> list[tuple[str, str]]:
    """Method and path template of every route that needs a key."""
    found = []
    for route in iter_route_contexts(list(routes)):
        path = route.path or ""
        if path not in PUBLIC:
            found += [(method, path) for method in sorted(route.methods or {"GET"})]
    return found


def require(caller: Principal, action: Action) -> None:
    """Raises Forbidden where none of the caller's roles allows the action."""
    if any(action in ACTIONS[role] for role in caller.roles):
        return
    held = ", ".join(sorted(caller.roles))
    raise Forbidden(
        "role_not_sufficient",
        f"Forbidden: {held}, the role of {caller.key_name}, does not allow the action {action}. These roles do: "
        f"{', '.join(roles.with_action(action))}. An operator makes a key with one: "
        "luthier keys create NAME --role ROLE.",
    )
