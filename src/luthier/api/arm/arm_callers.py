"""The caller of a route whose path names a resource."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from luthier.api.arm import arm_names
from luthier.api.auth import authentication
from luthier.core.models import Principal
from luthier.service.context import Context


def require_caller_of_path(context: Context) -> Callable[..., Principal]:
    """A dependency that gives the caller. Raises NotFound if the path names another resource than the caller's."""

    def check(
        request: Request, caller: Annotated[Principal, Depends(authentication.require_key(context))]
    ) -> Principal:
        arm_names.require_own(request, caller.resource)
        return caller

    return check
