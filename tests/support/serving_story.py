"""A real supervisor ticked by hand, and a model deployed."""

from collections.abc import Callable
from typing import Any

import httpx2

from fakes import KEY
from luthier.service.background.supervisor import Supervisor
from waiting import until


def ticked_until(supervisor: Supervisor, condition: Callable[[], object]) -> None:
    """Ticks until the condition holds."""

    def ticked() -> object:
        supervisor.tick()
        return condition()

    until(ticked, within_s=200, every_s=0.05)


def deployed(supervisor: Supervisor, url: str, model: str) -> dict[str, Any]:
    """Deploys the model and gives the deployment's properties once it has ended."""
    path = (
        "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/luthier"
        "/providers/Microsoft.CognitiveServices/accounts/luthier/deployments/tuned"
    )
    call: dict[str, Any] = {"headers": {"Authorization": f"Bearer {KEY}"}, "params": {"api-version": "2024-10-21"}}
    body = {
        "sku": {"name": "standard", "capacity": 1},
        "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
    }
    assert httpx2.put(url + path, json=body, **call).status_code == 201
    supervisor.tick_deployments()
    properties: dict[str, Any] = httpx2.get(url + path, **call).json()["properties"]
    return properties
