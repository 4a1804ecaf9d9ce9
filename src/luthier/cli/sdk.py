"""The openai SDK, pointed at a running service: its environment, its TLS, and its errors as lines. It imports the SDK
when it is loaded, so `client` imports this module on use.

A vendor's variables (OPENAI_*, AZURE_OPENAI_*) belong to the vendor: no command takes an address, a key or a header
from them. Only `import-jobs` reads a vendor's key, for the account that its own option names.
"""

import ipaddress
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
import openai
from openai import OpenAI

from luthier.cli import service_address
from luthier.cli.screen import fail
from luthier.cli.service_address import URL_VARIABLE, Key

_VENDORS = re.compile(r"(AZURE_)?OPENAI_")
_LISTS = re.compile(r"GET \.\.\./(?:fine_tuning/)?(files|jobs|models)(?= lists)")
_CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""The variables in which httpx2 looks for certificate authorities, in its order."""


class _NotLuthier(Exception):
    """An answer that no route of ours gives: a web page."""


UNREACHED = (openai.APIConnectionError, _NotLuthier)
"""What is raised if no service answers."""


@contextmanager
def connected(address: str, key: Key, max_retries: int) -> Iterator[OpenAI]:
    """A client of the service at `address`, open for the block. Errors of service and connection that the block raises
    end the command with one line and exit code 1.
    """
    try:
        with _client(address, key, max_retries) as client:
            yield client
    except UNREACHED as error:
        fail(reason(address, error), code="no_answer")
    except openai.AuthenticationError as error:
        hint = service_address.vendor_key_hint()
        words = f"{_message(error)} The key that was sent is that of {key.source}.{hint}"
        fail(words, code=error.code or "unauthorized", param=error.param)
    except openai.APIError as error:
        fail(_message(error), code=error.code or "failed", param=error.param)
    except httpx2.HTTPError as error:
        fail(f"The connection to {address} broke off ({type(error).__name__}). Ask again.", code="no_answer")


def reason(address: str, error: Exception) -> str:
    """Why there is no answer, as a sentence: no server, a server that is not Luthier, or no TLS that both ends accept.
    `error` is one of UNREACHED. Reads the data folder's lock file for where the service was last.
    """
    if isinstance(error, _NotLuthier):
        return (
            f"The server at {address} is not Luthier: it sends a web page. {URL_VARIABLE} sets the service's address."
        )
    if tls_error := _tls_error(error):
        return f"{address} answers, but {tls_error}"
    last = service_address.last_address()
    hint = "" if last in (None, address) else f" The service of this machine's data folder was last at {last}."
    return f"No answer from {address}. Is `luthier serve` running there? {URL_VARIABLE} sets another address.{hint}"


def _tls_error(error: BaseException | None) -> str:
    """What is wrong with TLS on the way to a server that is there; empty if it is something else."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not accepted: {error.verify_message}. For an authority of your own: "
                "SSL_CERT_FILE=ca.pem (docs/tls.md)."
            )
        if isinstance(error, ssl.SSLError):
            return f"not in TLS ({error.reason}). If it speaks plain http, {URL_VARIABLE} begins with http://."
        if isinstance(error, httpx2.RemoteProtocolError):
            return f"hangs up without a word of HTTP. If it speaks TLS, {URL_VARIABLE} begins with https://."
        error = error.__cause__ or error.__context__
    return ""


def _client(address: str, key: Key, max_retries: int) -> OpenAI:
    """The SDK's client with our address, key and HTTP client, and nothing from a vendor's variables."""
    with _without_vendor_variables():
        return _Service(
            base_url=f"{address}/v1", api_key=key.text, max_retries=max_retries, http_client=_http_client(address)
        )


class _Service(OpenAI):
    """The SDK without what it would take from a vendor's variables: organization, project, headers of all requests."""

    def copy(self, *arguments: Any, **options: Any) -> Self:
        """As the SDK's: a client with some options changed; it would read a vendor's variables once more."""
        with _without_vendor_variables():
            return super().copy(*arguments, **options)

    with_options = copy


@contextmanager
def _without_vendor_variables() -> Iterator[None]:
    """Removes a vendor's variables from this process's environment for the block."""
    removed = {name: os.environ.pop(name) for name in list(os.environ) if _VENDORS.match(name)}
    try:
        yield
    finally:
        os.environ.update(removed)


def _http_client(address: str) -> httpx2.Client:
    """An HTTP client that reaches loopback addresses without the proxy that the environment may name, and refuses web
    pages. Ends the command if SSL_CERT_FILE or SSL_CERT_DIR cannot be read.
    """
    host = urlsplit(address).hostname or ""
    direct: dict[str, httpx2.BaseTransport | None] = {f"all://{host}": None} if _is_loopback(host) else {}
    try:
        return openai.DefaultHttpxClient(mounts=direct, event_hooks={"response": [_require_luthier]})
    except OSError as error:  # of TLS: the authorities that the environment names
        variable = next((name for name in _CA_VARIABLES if os.environ.get(name)), None)
        if variable is None:
            raise
        fail(
            f"{variable}={os.environ[variable]} cannot be used: {error.strerror}. It names certificate authorities "
            "in PEM (docs/tls.md)."
        )


def _is_loopback(host: str) -> bool:
    """Whether the host is this machine's loopback address, by its name or number; no name is looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _require_luthier(response: httpx2.Response) -> None:
    """Raises _NotLuthier for an answer in HTML, which a proxy or another server sends."""
    if response.headers.get("content-type", "").startswith("text/html"):
        raise _NotLuthier


def _message(error: openai.APIError) -> str:
    """The service's error message, with our command in place of the route that lists such objects; the SDK's own words
    if the answer has none.
    """
    message = str(error.body.get("message", error) if isinstance(error.body, dict) else error)
    return _LISTS.sub(lambda route: f"`luthier {route[1]} list`", message)
