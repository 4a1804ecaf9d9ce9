"""The openai SDK, pointed at a running service; and the control plane through the same client."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import openai
from openai import OpenAI

from luthier.cli.screen import fail
from luthier.settings import Settings

DEFAULT_URL = "http://127.0.0.1:8000"
ARM_VERSION = "2024-10-01"
_KEY_VARIABLES = ("LUTHIER_API_KEY", "AZURE_OPENAI_API_KEY", "OPENAI_API_KEY")


@contextmanager
def connected(address: str | None = None) -> Iterator[OpenAI]:
    """A client of the service at LUTHIER_URL or AZURE_OPENAI_ENDPOINT; the key from the environment or its file.

    What the service or the connection says against the command becomes one readable line and status 1. Where an
    `address` is given, the vendors' variables are passed over: they may hold the key of another account.
    """
    at = url() if address is None else address
    variables = _KEY_VARIABLES if address is None else _KEY_VARIABLES[:1]
    try:
        with OpenAI(base_url=f"{at}/v1", api_key=_key(variables), max_retries=2) as api:
            yield api
    except openai.APIConnectionError:
        fail(f"No answer from {at}. Is `luthier serve` running there? LUTHIER_URL names another address.")
    except openai.APIStatusError as error:
        fail(str(_message(error)))


def url() -> str:
    return (os.environ.get("LUTHIER_URL") or os.environ.get("AZURE_OPENAI_ENDPOINT") or DEFAULT_URL).rstrip("/")


def control(client: OpenAI, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """One call of the control plane for the default resource; `path` follows `.../deployments`."""
    from luthier.api import arm
    from luthier.service.keys import DEFAULT_RESOURCE

    address = f"{url()}{arm.path_of(DEFAULT_RESOURCE)}{path}?api-version={ARM_VERSION}"
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


def _key(variables: Sequence[str]) -> str:
    for name in variables:
        if value := os.environ.get(name):
            return value
    key_file = Settings().key_file
    if not key_file.exists():
        fail(f"No API key: set LUTHIER_API_KEY, or run `luthier serve` once so that {key_file} is made.")
    return key_file.read_text("ascii").strip()


def _message(error: openai.APIStatusError) -> object:
    return error.body.get("message", error) if isinstance(error.body, dict) else error
