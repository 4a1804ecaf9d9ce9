"""A second resource for tests, and what its owner and the first one's do through the wire."""

from typing import Any

import httpx2

import rows
from fakes import BASE, KEY
from luthier.api.arm import arm_names
from luthier.core.models import Resource
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.tenants import keys
from luthier.service.tenants.keys import DEFAULT_RESOURCE
from luthier.store.queries import resources

OTHER = Resource("other", "11111111-1111-1111-1111-111111111111", "lab", "violas")
OTHER_KEY = "other-key-0123456789abcdef"
KEYS = {DEFAULT_RESOURCE.id: KEY, OTHER.id: OTHER_KEY}
VERSION = {"api-version": "2024-10-21"}


def add_other(context: Context) -> None:
    with context.database.writing() as tx:
        resources.insert_resource(tx, OTHER, context.now())
        resources.insert_key(tx, keys.hash_key(OTHER_KEY), OTHER.id, "key1", context.now())


def train(url: str, supervisor: Supervisor, suffix: str | None = None) -> tuple[str, str]:
    """A finished job of the first resource, and the model that it made."""
    head = {"api-key": KEY}
    form: dict[str, Any] = {"files": {"file": ("rows.jsonl", rows.good())}, "data": {"purpose": "fine-tune"}}
    file = httpx2.post(f"{url}/v1/files", headers=head, **form).json()
    body = {"model": BASE, "training_file": file["id"], "suffix": suffix}
    job_id = httpx2.post(f"{url}/v1/fine_tuning/jobs", headers=head, json=body).json()["id"]
    for _ in range(5):
        supervisor.tick()
    job = httpx2.get(f"{url}/v1/fine_tuning/jobs/{job_id}", headers=head).json()
    assert job["status"] == "succeeded", job
    return job_id, job["fine_tuned_model"]


def put(url: str, resource: Resource, name: str, model: str, source: Resource | None = None) -> httpx2.Response:
    described = {"format": "OpenAI", "name": model, "version": "1"}
    if source is not None:
        described["source"] = arm_names.id_of(source)
    body = {"sku": {"name": "standard", "capacity": 1}, "properties": {"model": described}}
    head = {"Authorization": f"Bearer {KEYS[resource.id]}"}
    return httpx2.put(f"{url}{arm_names.path_of(resource)}/{name}", headers=head, params=VERSION, json=body)


def delete(url: str, resource: Resource, name: str) -> int:
    head = {"Authorization": f"Bearer {KEYS[resource.id]}"}
    return httpx2.delete(f"{url}{arm_names.path_of(resource)}/{name}", headers=head, params=VERSION).status_code


def ask(url: str, resource: Resource, name: str) -> httpx2.Response:
    address = f"{url}/openai/deployments/{name}/chat/completions"
    body = {"messages": [{"role": "user", "content": "hi"}]}
    return httpx2.post(address, headers={"api-key": KEYS[resource.id]}, params=VERSION, json=body)
