"""Deployments as people see them: what answers, how well it agrees with its trainer, its limit, traffic and end."""

from dataclasses import dataclass
from datetime import datetime

from luthier.core.engine_ports import EngineState
from luthier.core.models import Deployment
from luthier.core.states import DeploymentState, LoadState
from luthier.portal.views.models import lineage_steps
from luthier.service.models.deployment_fields import DEVELOPER_SKUS
from luthier.service.models.deployment_traffic import Traffic
from luthier.service.tenants.rate_limits import Limit

_LOADS = {
    LoadState.READY: ("loaded", "good"),
    LoadState.LOADING: ("loading", "busy"),
    LoadState.RESTING: ("resting: the next call loads it", "neutral"),
    LoadState.RESTARTING: ("restarting", "warning"),
    LoadState.UNRESPONSIVE: ("does not answer", "bad"),
}
_REMEDIES = {
    "parity_failed": "Its engine does not answer as the trainer did, so nothing is served. Try once more; if it fails "
    "again, deploy another checkpoint, and show the operator this text: LUTHIER_SERVE_ENGINE chooses another engine.",
    "model_not_ready": "The operator pulls the base model by the command above; then try once more.",
    "model_not_found": "Its model is deleted, or no longer shared with this resource: delete the deployment.",
    "base_model_gone": "The operator puts the base model back into the catalog; then try once more.",
}


@dataclass(frozen=True, slots=True)
class DeploymentRow:
    """One deployment. `parity` and `verdict` are words, `load_tone` a badge's colour.

    `answers_now` is the model before, while a new one is not proven; `remedy` says what to do about `error`;
    `is_kept_by_calls` is whether a call puts `expires_at` off. It `embeds` if its model makes vectors and no answers.
    """

    name: str
    path: str
    model: str
    model_name: str
    model_path: str
    state: DeploymentState
    engine: str
    load: str
    load_tone: str
    engine_reason: str
    verdict: str
    parity: str
    sku: str
    limit: str
    traffic: Traffic
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime | None
    error: str
    remedy: str
    answers_now: str
    is_kept_by_calls: bool
    embeds: bool


def row(
    deployment: Deployment,
    engine: EngineState | None,
    embeds: bool,
    limit: Limit | None,
    traffic: Traffic,
    expires_at: datetime | None,
) -> DeploymentRow:
    """The row of a deployment; `engine` is None if nothing answers, and `embeds` is whether its model makes vectors."""
    load, tone = ("", "neutral") if engine is None else _LOADS[engine.state]
    verdict, parity = _parity(deployment, embeds)
    error = deployment.error
    retry = "Delete it and deploy a model again, or try once more."
    return DeploymentRow(
        name=deployment.name,
        path=f"/deployments/{deployment.name}",
        model=deployment.model,
        model_name=lineage_steps.short_name(deployment.model),
        model_path=lineage_steps.model_path(deployment.model),
        state=deployment.state,
        engine="" if engine is None else str(engine.engine),
        load=load,
        load_tone=tone,
        engine_reason="" if engine is None else engine.reason,
        verdict=verdict,
        parity=parity,
        sku=f"{deployment.sku_name}, capacity {deployment.sku_capacity:,}",
        limit=limit_words(limit),
        traffic=traffic,
        created_at=deployment.created_at,
        last_used_at=deployment.last_used_at,
        expires_at=expires_at,
        error="" if error is None else error.message,
        remedy="" if error is None else _REMEDIES.get(error.code, retry),
        answers_now=deployment.answering or "",
        is_kept_by_calls=deployment.sku_name not in DEVELOPER_SKUS,
        embeds=embeds,
    )


def limit_words(limit: Limit | None) -> str:
    """A rate limit as a sentence's part."""
    if limit is None:
        return "no rate limit"
    requests = "1 request" if limit.requests == 1 else f"{limit.requests:,} requests"
    return f"{limit.tokens:,} tokens and {requests} per minute"


def _parity(deployment: Deployment, embeds: bool) -> tuple[str, str]:
    """The verdict of the last check in words, and its figures; empty without a check."""
    figures = deployment.parity
    if figures is None:
        return ("not checked yet", "") if deployment.state is DeploymentState.CREATING else ("not checked", "")
    unit, places = ("distance", "texts") if embeds else ("nats", "positions")
    agrees = deployment.state is DeploymentState.SUCCEEDED
    text = (
        f"at most {figures['max_difference']:.4f} {unit}, on average {figures['mean_difference']:.4f}, "
        f"at {figures['positions']:.0f} {places}; {figures['tolerance']:g} allowed"
    )
    return ("answers as trained" if agrees else "differs from its training"), text
