"""GET /metrics: what the service measures of itself, in Prometheus's text format."""

from typing import Annotated

from fastapi import Depends
from fastapi.responses import Response

from luthier.api.auth import authentication
from luthier.api.routing import json_schema as js
from luthier.api.routing.operation import Reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core import ids
from luthier.core.errors import Forbidden
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.service import service_metrics
from luthier.service.context import Context
from luthier.service.service_metrics import ServiceMetrics

PATH = "/metrics"


def build_router(services: Services) -> Router:
    """The one route of this module, an extension outside of every dialect."""
    services.metrics.watch(services.context, services.calls.n_waiting, services.serving)
    return build_routes(services.context, services.metrics)


def build_routes(context: Context, metrics: ServiceMetrics) -> Router:
    """The same for whatever these metrics have."""
    router = Router(tag="health")
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]

    @router.get(
        PATH, Action.USAGES_READ, "Get the service's metrics for Prometheus", Reply(content={"text/plain": js.TEXT})
    )
    def get_metrics(caller: Caller) -> Response:
        """Of the whole service, so only with a key of the default resource."""
        if caller.resource.id != ids.DEFAULT_RESOURCE:
            text = "Metrics are of all resources together; they are read with a key of the default resource."
            raise Forbidden("metrics_of_all", text)
        return Response(metrics.text(), media_type=service_metrics.CONTENT_TYPE)

    return router
