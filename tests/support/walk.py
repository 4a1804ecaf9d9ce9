"""Every route of the application with something in the place of each parameter: what generated tests walk over."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from fastapi import FastAPI

from fakes import BASE
from luthier.api.routing import guarded_route
from luthier.api.routing.guarded_route import GuardedRoute
from luthier.core.roles import Action

TENANT = frozenset({"subscription", "group", "account", "location"})
"""Parameters that name a resource and no thing in it."""
ANY = "any"
"""The parameter of an older path that means nothing: the deployment's name that older SDKs put before everything."""
NEVER: dict[str, str] = {
    "file_id": "file-" + "0" * 32,
    "upload_id": "upload_" + "0" * 32,
    "batch_id": "batch_" + "0" * 32,
    "job_id": "ftjob-" + "0" * 32,
    "checkpoint_id": "ftchkpt-" + "0" * 32,
    "checkpoint": f"{BASE}.ft-" + "0" * 32 + ":ckpt-step-2",
    "permission_id": "cp_" + "0" * 32,
    "model_name": f"{BASE}.ft-" + "0" * 32,
    "response_id": "resp_" + "0" * 32,
    "deployment": "nobody",
    "name": "nobody",
    "subscription": "11111111-1111-1111-1111-111111111111",
    "group": "nowhere",
    "account": "nobody",
    "location": "local",
    "export_id": "export-" + "0" * 32,
    "file_name": "README.md",
    "webhook_id": "whe_" + "0" * 32,
    ANY: "anything",
}
"""Per parameter of a path a value of the right form that never was. A new route's parameter needs a line here."""
BODIES: dict[str, dict[str, Any]] = {
    "/chat/completions": {"model": "nobody", "messages": [{"role": "user", "content": "hi"}]},
    "/completions": {"model": "nobody", "prompt": "hi"},
    "/embeddings": {"model": "nobody", "input": "hi"},
    "/deployments/{}": {"sku": {"name": "Standard"}, "properties": {"model": {"name": BASE}}},
    "/complete": {"part_ids": ["part_" + "0" * 32]},
    "/permissions": {"project_ids": ["luthier"]},
    "/copy": {"destinationResourceId": "/subscriptions/s", "region": "r"},
    "/regenerateKey": {"keyName": "Key2"},
    "/webhook_endpoints/{}": {"name": "other"},
    "/rotate_secret": {"keep_old_secret_active_for_24_hours": True},
    "/webhook_endpoints/{}/test": {"event_type": "batch.completed"},
}
"""A good body by the end of a route that needs one and has a parameter."""
PREVIEW = {"aoai-copy-ft-checkpoints": "preview"}


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    template: str
    action: Action

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"\{(\w+)(?::\w+)?\}", self.template)

    @property
    def names_a_thing(self) -> bool:
        return bool(set(self.parameters) - TENANT - {ANY})

    @property
    def body(self) -> dict[str, Any] | None:
        plain = re.sub(r"\{[^}]*\}", "{}", self.template)
        if self.method == "PATCH":
            return {}
        if self.method not in {"POST", "PUT"}:
            return None
        return next((body for end, body in BODIES.items() if plain.endswith(end)), None)

    def path(self, values: Mapping[str, str]) -> str:
        filled = re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: values[found[1]], self.template)
        return f"{filled}?api-version=2024-10-21"

    def __str__(self) -> str:
        return f"{self.method} {self.template}"


def request(url: str, call: Call, values: Mapping[str, str], key: str | None) -> httpx2.Response:
    headers = PREVIEW | ({"api-key": key} if key else {})
    address = url + call.path(values)
    if call.template.endswith("/parts"):
        return _client.request(call.method, address, headers=headers, files={"data": ("part", b"abc")})
    return _client.request(call.method, address, headers=headers, json=call.body)


_client = httpx2.Client(timeout=60)
"""One for all: making one costs more than ten requests."""


def calls(app: FastAPI) -> list[Call]:
    """Every route that needs a key, and every older path that is served as one of them."""
    actions = {
        (method, route.path): route.operation.action
        for route in app.routes
        if isinstance(route, GuardedRoute)
        for method in route.methods or ()
    }
    routes = []
    for method, path in guarded_route.protected(app.routes):
        action = actions[method, path]
        assert action is not None, path
        routes.append(Call(method, path, action))
    return routes + _older(routes)


def _older(routes: list[Call]) -> list[Call]:
    found = [
        Call("GET", "/fine_tuning/jobs/{job_id}/events", Action.JOBS_READ),
        Call("GET", "/fine-tunes/{job_id}/events", Action.JOBS_READ),
    ]
    for route in routes:
        if re.match(r"/openai/(files|uploads|fine_tuning|models)\b", route.template):
            below = route.template.removeprefix("/openai/")
            found.append(Call(route.method, f"/openai/deployments/{{{ANY}}}/{below}", route.action))
        elif re.match(r"/openai/deployments/\{deployment\}/", route.template):
            found.append(Call(route.method, route.template.replace("/deployments/", "/engines/"), route.action))
    return found
