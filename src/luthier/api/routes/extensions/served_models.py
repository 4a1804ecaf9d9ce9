"""GET /luthier/engines and POST /luthier/parity: what serves the caller's deployments, and a new proof of a model."""

import asyncio
from typing import Annotated, Literal, Self

from fastapi import Depends
from fastapi.responses import Response
from msgspec import Meta, Struct
from pydantic import BaseModel, ConfigDict, Field

from luthier.api.auth import authentication
from luthier.api.dialects import answer
from luthier.api.dialects.answer import Unix
from luthier.api.routing.json_response import JsonResponse
from luthier.api.routing.operation import json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.engine_ports import ParityReport
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.core.states import EngineName, LoadState
from luthier.service.inference import model_routing
from luthier.service.models import deployments, models
from luthier.service.models.deployment_traffic import Traffic
from luthier.service.models.proofs import Proof


class TrafficFigures(Struct, kw_only=True):
    """What a deployment has answered since the service started; `refused` calls were beyond its rate limit."""

    calls: int
    errors: int
    refused: int
    input_tokens: int
    output_tokens: int
    first_token_seconds: Annotated[float | None, Meta(description="Median of the latest calls; null before the first.")]
    last_call_at: Unix | None

    @classmethod
    def from_traffic(cls, traffic: Traffic) -> Self:
        """The figures as the wire has them."""
        return cls(
            calls=traffic.calls,
            errors=traffic.errors,
            refused=traffic.refused,
            input_tokens=traffic.input_tokens,
            output_tokens=traffic.output_tokens,
            first_token_seconds=traffic.first_token_s,
            last_call_at=answer.unix_or_none(traffic.last_call_at),
        )


class ServedDeployment(Struct, kw_only=True):
    """One deployment: what serves its model, whether that is loaded now and why not, and its traffic."""

    deployment: str
    model: str
    engine: EngineName
    state: LoadState
    reason: Annotated[str, Meta(description="A sentence for the operator.")]
    traffic: TrafficFigures


class ServedDeployments(Struct, kw_only=True):
    """The deployments of the caller's resource that answer."""

    object: Literal["list"] = "list"
    data: list[ServedDeployment]


class ParityBody(BaseModel):
    """The model, or the deployment, whose served weights are compared with what its trainer wrote."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=256)


class ParityFigures(Struct, kw_only=True):
    """Absolute differences of log-probabilities in nats over the positions of a model's probes.

    Of an embedding model distances of vectors of length 1 over its texts.
    """

    positions: int
    max_difference: float
    mean_difference: float
    tolerance: float
    agrees: bool

    @classmethod
    def from_report(cls, report: ParityReport) -> Self:
        """The figures of a report, without its sentence."""
        return cls(
            positions=report.positions,
            max_difference=report.max_difference,
            mean_difference=report.mean_difference,
            tolerance=report.tolerance,
            agrees=report.agrees,
        )


class Parity(Struct, kw_only=True):
    """Whether a model is served as it was trained, and whether others on its base still are beside it.

    `beside` has the figures of each model that is loaded on the same base, its own resource's or not, unnamed.
    """

    object: Literal["luthier.parity"] = "luthier.parity"
    model: str
    engine: EngineName
    agrees: bool
    reason: str
    figures: ParityFigures
    beside: list[ParityFigures]

    @classmethod
    def from_proof(cls, name: str, engine: EngineName, proof: Proof) -> Self:
        """The answer for a proof of the model of that name."""
        return cls(
            model=name,
            engine=engine,
            agrees=proof.report.agrees,
            reason=proof.report.reason,
            figures=ParityFigures.from_report(proof.report),
            beside=[ParityFigures.from_report(report) for report in proof.beside],
        )


def build_router(services: Services) -> Router:
    """The two routes, extensions outside of every dialect."""
    router = Router(tag="deployments")
    context, serving = services.context, services.serving
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]

    @router.get(
        "/luthier/engines",
        Action.DEPLOYMENTS_READ,
        "List what serves each deployment, and whether it is loaded",
        json_reply(ServedDeployments),
    )
    def list_engines(caller: Caller) -> object:
        """Loads nothing: a model that rests is loaded by its next call."""
        own = caller.resource.id
        found = []
        for deployment in deployments.list_all(context, own):
            model = deployment.served_model
            if model is None:
                continue
            state = serving.state(models.get(context, own, model))
            found.append(
                ServedDeployment(
                    deployment=deployment.name,
                    model=model,
                    engine=state.engine,
                    state=state.state,
                    reason=state.reason,
                    traffic=TrafficFigures.from_traffic(services.traffic.of(deployment)),
                )
            )
        return ServedDeployments(data=found)

    @router.post(
        "/luthier/parity",
        Action.INFER,
        "Prove again that a model is served as it was trained",
        json_reply(Parity),
        errors=(404, 503),
    )
    async def prove(body: ParityBody, caller: Caller) -> Response:
        """Loads the model if need be, and asks its probes and those of all models beside it. May take seconds."""
        target = model_routing.find(context, caller.resource.id, body.model, allows_models=True, embeds=None)
        proof = await serving.prove_beside_all(target.model)
        engine = (await asyncio.to_thread(serving.state, target.model)).engine
        return JsonResponse(Parity.from_proof(target.model.canonical_name, engine, proof))

    return router
