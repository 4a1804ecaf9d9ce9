"""Endpoints by noun. `build_router` registers those of one dialect; `health` and those of `extensions` belong to none.

An endpoint turns a body into a call of `service` and the result into the dialect's answer; errors become answers in
`server.py`. Its docstring is published in the OpenAPI document.
"""

from fastapi import Depends

from luthier.api.auth import authentication
from luthier.api.dialects.dialects import Dialect
from luthier.api.routes import (
    batches,
    copies,
    data_plane_deployments,
    files,
    jobs,
    models,
    permissions,
    uploads,
    webhooks,
)
from luthier.api.routes.inference import chat, completions, embeddings, responses, stored_responses
from luthier.api.routing.data_plane_route import DataPlaneRoute
from luthier.api.routing.router import Router
from luthier.api.services import Services


def build_router(dialect: Dialect, services: Services) -> Router:
    """All data-plane routes of one dialect under its prefix."""
    version = Depends(authentication.require_version(dialect))
    router = Router(prefix=dialect.prefix, dependencies=[version], tag=dialect.name, route_class=DataPlaneRoute)
    for noun in (files, uploads, batches, jobs, copies, permissions, models, data_plane_deployments, webhooks):
        noun.add_routes(router, dialect, services)
    for noun in (chat, completions, responses, stored_responses, embeddings):
        noun.add_routes(router, dialect, services)
    return router
