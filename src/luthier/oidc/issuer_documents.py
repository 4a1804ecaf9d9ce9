"""What an issuer says of itself: its discovery document, and JSON over HTTP within bounds."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2

FETCH_TIMEOUT_S = 5.0
MAX_FETCHED_BYTES = 2**20
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def new_client() -> httpx2.Client:
    """A client that follows no redirect and no proxy variable: an issuer's secrets go to the issuer alone."""
    return httpx2.Client(timeout=FETCH_TIMEOUT_S, trust_env=False)


def discovery(client: httpx2.Client, issuer: str) -> dict[str, Any]:
    """The discovery document of an issuer. Raises httpx2.HTTPError, and ValueError for one of another issuer."""
    document = get_json(client, issuer.rstrip("/") + "/.well-known/openid-configuration")
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise ValueError("its discovery document is of another issuer")
    return document


def endpoint(document: Mapping[str, Any], name: str) -> str:
    """An address in the discovery document. Raises ValueError for none, and for plain HTTP beyond this machine."""
    url = document.get(name)
    if not isinstance(url, str):
        raise ValueError(f"its discovery document has no {name}")
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError(f"its {name} is no https:// address")
    return url


def get_json(client: httpx2.Client, url: str) -> Any:
    """The JSON at a URL. Raises httpx2.HTTPError, also for an error status, and ValueError for no JSON or too much."""
    with client.stream("GET", url) as response:
        response.raise_for_status()
        return _json(response)


def post_form(
    client: httpx2.Client, url: str, form: Mapping[str, str], credentials: tuple[str, str] | None
) -> tuple[int, Any]:
    """Status and JSON of the answer to a form; `credentials` are sent as Basic authentication.

    Raises httpx2.HTTPError, and ValueError for no JSON or too much.
    """
    auth = None if credentials is None else httpx2.BasicAuth(*credentials)
    headers = {"accept": "application/json"}
    with client.stream("POST", url, data=dict(form), headers=headers, auth=auth) as response:
        return response.status_code, _json(response)


def _json(response: httpx2.Response) -> Any:
    """The answer's JSON. Raises ValueError for none, and for more than MAX_FETCHED_BYTES."""
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MAX_FETCHED_BYTES:
            raise ValueError("too large")
    return httpx2.Response(200, content=bytes(body)).json()
