"""The dependency of routes whose path names an account: the caller, if the account is its own."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from luthier.api.arm import arm_names
from luthier.api.auth import authentication
from luthier.core.models import Principal
from luthier.service.context import Context


def require_caller_of_path(context: Context) -> Callable[..., Principal]:
    """A dependency that checks key and path, and gives the caller."""

    def check(
        request: Request, caller: Annotated[Principal, Depends(authentication.require_key(context))]
    ) -> Principal:
        """The authenticated caller. Raises NotFound if the path names another resource than the caller's."""
        arm_names.require_own(request, caller.resource)
        return caller

    return check
