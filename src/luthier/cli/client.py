"""A client of the running service for the commands, and the control plane through the same client.

The openai SDK takes longer to import than a command's help may: it is imported when a command calls the service.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from luthier.cli import service_address

if TYPE_CHECKING:  # imported on use: help should not wait for it
    from openai import OpenAI

AS_CSV = {"Accept": "text/csv, */*"}
"""The header that asks for results.csv as it is; other clients get base64 of it."""
ARM_VERSION = "2024-10-01"
STATUS_PATH = "/luthier/status"
_UNREAD = "X-Stainless-Raw-Response"
"""The SDK's own mark, never sent, for an answer that is read piece by piece."""
PROOF_TIMEOUT_S = 1200.0


@contextmanager
def connected(address: str | None = None, max_retries: int = 2) -> "Iterator[OpenAI]":
    """A client of the service at `address`, or at LUTHIER_URL, for the block; the key is LUTHIER_API_KEY or that of the
    key file. Nothing is sent before the block's first call, and `max_retries` is per call.

    Errors of the service and of the connection, in the block, end the command with one line and exit code 1, as does a
    missing key.
    """
    root = service_address.url() if address is None else service_address.normalized(address)
    key = service_address.find_key()
    from luthier.cli import sdk

    with sdk.connected(root, key, max_retries) as client:
        yield client


def call_control_plane(
    client: "OpenAI", method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """One call of the control plane for the resource of the key; `path` follows `.../deployments`. Returns the JSON
    object answered, None if there is no body, as for DELETE.

    Raises the SDK's errors, for `connected` to word; ValueError for another method is an internal fault.
    """
    address = f"{_root(client)}{_deployments(client)}{path}?api-version={ARM_VERSION}"
    match method:
        case "GET":
            answer: Any = client.get(address, cast_to=object)
        case "PUT":
            answer = client.put(address, cast_to=object, body=body)
        case "DELETE":
            answer = client.delete(address, cast_to=object)
        case _:
            raise ValueError(method)
    return answer if isinstance(answer, dict) else None


def delete(client: "OpenAI", path: str) -> None:
    """Sends DELETE for a path below the service's root, for what the SDK has no method for. Raises the SDK's errors."""
    client.delete(f"{_root(client)}{path}", cast_to=object)


def prove(client: "OpenAI", model: str) -> dict[str, Any]:
    """A new proof that a model is served as it was trained. Raises the SDK's errors."""
    # A model of gigabytes may have to be loaded first.
    options: Any = {"timeout": PROOF_TIMEOUT_S, "max_retries": 0}
    proof: Any = client.post(f"{_root(client)}/luthier/parity", cast_to=object, body={"model": model}, options=options)
    return dict(proof)


def create_export(client: "OpenAI", model: str, format: str, dtype: str | None) -> dict[str, Any]:
    """A new export of a model or deployment, or the one that there is already. Raises the SDK's errors."""
    body = {"model": model, "format": format} | ({} if dtype is None else {"dtype": dtype})
    made: Any = client.post(f"{_root(client)}/luthier/exports", cast_to=object, body=body)
    return dict(made)


def get_export(client: "OpenAI", export_id: str) -> dict[str, Any]:
    """An export as it is now. Raises the SDK's errors."""
    found: Any = client.get(f"{_root(client)}/luthier/exports/{export_id}", cast_to=object)
    return dict(found)


@contextmanager
def export_file(client: "OpenAI", export_id: str, name: str, headers: dict[str, str]) -> "Iterator[Any]":
    """The answer with a file of an export, not read yet: the SDK's APIResponse, closed at the end of the block.

    Raises the SDK's errors, without retries.
    """
    options: Any = {"headers": {_UNREAD: "stream", **headers}, "max_retries": 0}
    address = f"{_root(client)}/luthier/exports/{export_id}/files/{name}"
    response: Any = client.get(address, cast_to=object, options=options)
    try:
        yield response
    finally:
        response.close()


def attempts(client: "OpenAI", job_id: str) -> list[dict[str, Any]]:
    """Every training attempt of a job, newest first. The SDK has no such route: its plain `get` walks the pages. Raises
    the SDK's errors.
    """
    listed: list[dict[str, Any]] = []
    after = ""
    while True:
        address = f"/fine_tuning/jobs/{quote(job_id, safe='')}/attempts?limit=100{after}"
        page: Any = client.get(address, cast_to=object)
        listed += page["data"]
        if not page["has_more"]:
            return listed
        after = f"&after={page['last_id']}"


def engines(client: "OpenAI") -> dict[str, dict[str, str]]:
    """What serves each deployment, by its name. Raises the SDK's errors."""
    answer: Any = client.get(f"{_root(client)}/luthier/engines", cast_to=object)
    return {one["deployment"]: one for one in answer["data"]}


def status(client: "OpenAI") -> dict[str, Any]:
    """The service's report of itself, with the resource of the key. Raises the SDK's errors."""
    report: Any = client.get(f"{_root(client)}{STATUS_PATH}", cast_to=object)
    return dict(report)


@lru_cache(maxsize=1)
def _deployments(client: "OpenAI") -> str:
    """The path of the deployments of the resource of the client's key; asked of the service once a client."""
    return str(status(client)["resource"]["deployments"])


def _root(client: "OpenAI") -> str:
    """The service's address without the /v1 of the SDK's base URL."""
    return service_address.normalized(str(client.base_url))
