"""Endpoints by noun. `build_router` puts them together for one dialect."""

from fastapi import APIRouter, Depends

from luthier.api import auth, kinds
from luthier.api.dialects import Dialect
from luthier.api.plain_route import PlainRoute
from luthier.api.routes import (
    chat,
    completions,
    copies,
    deployments,
    files,
    jobs,
    models,
    permissions,
    uploads,
)
from luthier.api.services import Services


def build_router(dialect: Dialect, services: Services) -> APIRouter:
    """All data-plane routes of one dialect under its prefix."""
    version = Depends(auth.require_version(dialect))
    shared = [version, Depends(kinds.require_json)]
    router = APIRouter(prefix=dialect.prefix, dependencies=shared, tags=[dialect.name], route_class=PlainRoute)
    for noun in (files, uploads, jobs, copies, permissions, models, deployments, chat, completions):
        noun.add(router, dialect, services)
    return router
