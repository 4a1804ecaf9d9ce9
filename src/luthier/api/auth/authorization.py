"""Whether a caller's roles allow an action."""

from luthier.core import roles
from luthier.core.errors import Forbidden
from luthier.core.models import Principal
from luthier.core.roles import ACTIONS, Action


def require(caller: Principal, action: Action) -> None:
    """Raises Forbidden, which names the roles that would do, if none of the caller's roles allows the action."""
    if any(action in ACTIONS[role] for role in caller.roles):
        return
    held = ", ".join(sorted(caller.roles))
    raise Forbidden(
        "role_not_sufficient",
        f"Forbidden: {held}, the role of {caller.key_name}, does not allow the action {action}. These roles do: "
        f"{', '.join(roles.with_action(action))}. An operator makes a key with one: "
        "luthier keys create NAME --role ROLE.",
    )
