"""Endpoints by noun. `build_router` puts them together for one dialect."""

from fastapi import APIRouter, Depends

from luthier.api import auth
from luthier.api.dialects import Dialect
from luthier.api.plain_route import PlainRoute
from luthier.api.routes import chat, files, jobs, models
from luthier.api.services import Services


def build_router(dialect: Dialect, services: Services) -> APIRouter:
    """All data-plane routes of one dialect under its prefix."""
    version = Depends(auth.require_version(dialect))
    router = APIRouter(prefix=dialect.prefix, dependencies=[version], tags=[dialect.name], route_class=PlainRoute)
    for noun in (files, jobs, models, chat):
        noun.add(router, dialect, services)
    return router
