"""The source account, read through the openai SDK: lists page by page, files as streams, GET requests only."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
from openai import AzureOpenAI, DefaultHttpx2Client, OpenAI

from luthier.account_import import source_records
from luthier.account_import.account_address import Address, SourceDialect
from luthier.account_import.source_records import JsonObject
from luthier.atomic_io import disk_full_as_no_space
from luthier.core.errors import (
    Forbidden,
    LuthierError,
    NotFound,
    RateLimited,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
)

MAX_LISTED = 200_000
"""More than any account holds of one list: a source without an end is broken."""
PAGE = 100
MAX_RETRIES = 5
DOWNLOAD_TRIES = 3
CHUNK_BYTES = 256 * 1024
_TIMEOUT = httpx2.Timeout(60.0, connect=10.0)
_KEY_HEADERS = ("authorization", "api-key")


class Source:
    """One account. The SDK's retries wait as long as 429 answers ask for.

    Methods block, and raise in the source's name: Unauthenticated, Forbidden, NotFound, RateLimited, UpstreamFailed or
    Unavailable.
    """

    def __init__(self, client: OpenAI, address: Address, max_listed: int = MAX_LISTED) -> None:
        """`max_listed` is how many objects of one list are read before the source counts as broken."""
        self._client, self.address, self._max_listed = client, address, max_listed

    def jobs(self) -> list[JsonObject]:
        """Every fine-tuning job, newest first."""
        return self._listed("/fine_tuning/jobs", {"limit": PAGE})

    def files(self) -> list[JsonObject]:
        """Every file of the account, whatever its purpose."""
        return self._listed("/files", {})

    def file(self, file_id: str) -> JsonObject | None:
        """A file's JSON object by its id; None if it was deleted."""
        try:
            return self._object(f"/files/{file_id}", {})
        except NotFound:
            return None

    def events(self, job_id: str) -> list[JsonObject]:
        """A job's events, oldest first."""
        return self._listed(f"/fine_tuning/jobs/{job_id}/events", {"limit": PAGE})[::-1]

    def checkpoints(self, job_id: str) -> list[JsonObject]:
        """A job's checkpoints, in the source's order."""
        return self._listed(f"/fine_tuning/jobs/{job_id}/checkpoints", {"limit": PAGE})

    def download(self, file_id: str, path: Path, max_bytes: int, progress: Callable[[int], None]) -> tuple[int, str]:
        """Writes a file's bytes to `path`; returns their count and sha256 in hex. `progress` gets the bytes so far.

        A connection that breaks off is tried again, from the beginning. Raises UpstreamFailed if that keeps happening
        and for more than `max_bytes`, and NoSpace.
        """
        for tried in range(1, DOWNLOAD_TRIES + 1):
            try:
                return self._stream(file_id, path, max_bytes, progress)
            except httpx2.HTTPError as error:  # in the middle of the stream, where the SDK does not retry
                if tried == DOWNLOAD_TRIES:
                    raise UpstreamFailed("source_broke_off", "the source broke off while sending it") from error
        raise AssertionError("unreachable")

    def _stream(self, file_id: str, path: Path, max_bytes: int, progress: Callable[[int], None]) -> tuple[int, str]:
        """One attempt at a download. Raises httpx2.HTTPError where the connection breaks off."""
        count, digest = 0, hashlib.sha256()
        progress(0)
        with (
            self._luthier_errors(),
            self._client.files.with_streaming_response.content(file_id) as response,
            disk_full_as_no_space(path),
            path.open("wb") as target,
        ):
            for chunk in response.iter_bytes(CHUNK_BYTES):
                count += len(chunk)
                if count > max_bytes:
                    raise UpstreamFailed("source_file_too_long", f"the source sends more than {max_bytes} bytes of it")
                digest.update(chunk)
                target.write(chunk)
                progress(count)
        return count, digest.hexdigest()

    def _listed(self, path: str, query: dict[str, Any]) -> list[JsonObject]:
        """All pages of a list, each object once. A page without new objects ends it: Azure's lists of files ignore
        `after` and have no `has_more`, and answer the same page again."""
        objects: dict[str, JsonObject] = {}
        page_query = dict(query)
        while True:
            page = self._object(path, page_query)
            data = page.get("data")
            if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
                raise self._no_api()
            fresh = {source_records.identifier(item): item for item in data}
            n_before = len(objects)
            objects |= {name: item for name, item in fresh.items() if name not in objects}
            if len(objects) == n_before or page.get("has_more") is False:
                return list(objects.values())
            if len(objects) > self._max_listed:
                raise UpstreamFailed(
                    "source_has_no_end",
                    f"{self.address.host} lists more than {self._max_listed} objects under {path} without an end; "
                    "none of them was imported.",
                )
            page_query = query | {"after": list(fresh)[-1]}

    def _object(self, path: str, query: dict[str, Any]) -> JsonObject:
        """The JSON object at a path of the API. Raises UpstreamFailed for an answer that is none."""
        with self._luthier_errors():
            answer: Any = self._client.get(path, cast_to=object, options={"params": query})
        if not isinstance(answer, dict):
            raise self._no_api()
        return answer

    @contextmanager
    def _luthier_errors(self) -> Iterator[None]:
        """Turns the SDK's errors inside the block into LuthierErrors that name the source.

        The source's message about a refused key is not repeated.
        """
        host = self.address.host
        try:
            yield
        except openai.AuthenticationError as error:
            variable = self.address.key_variables[-1]
            message = f"{host} refuses the key (401). Give that account's key by {variable} or --api-key."
            raise Unauthenticated("source_refuses_key", message) from error
        except openai.PermissionDeniedError as error:
            raise Forbidden("source_forbids", f"{host} does not allow it with this key (403)") from error
        except openai.NotFoundError as error:
            raise NotFound("not_at_source", f"{host} no longer has it (404)") from error
        except openai.RateLimitError as error:
            raise _limited(host, error) from error
        except openai.APIStatusError as error:
            raise UpstreamFailed("source_failed", f"{host} answers {error.status_code}: {_message(error)}") from error
        except openai.APIConnectionError as error:
            message = f"No answer from {host}. Check --from and the network; what was imported stays."
            raise Unavailable("source_unreachable", message) from error
        except openai.APIError as error:
            raise self._no_api() from error

    def _no_api(self) -> LuthierError:
        """The error for a server that answers otherwise than OpenAI's API."""
        return UpstreamFailed(
            "source_is_no_api", f"{self.address.base_url} does not speak OpenAI's API. Check the address by --from."
        )


@contextmanager
def opened(address: Address, key: str, max_retries: int = MAX_RETRIES) -> Iterator[Source]:
    """A source while the block lasts; connects at its first request. `max_retries` are the SDK's, for each request."""
    guard = _Guard(address)
    with DefaultHttpx2Client(timeout=_TIMEOUT, event_hooks={"request": [guard.check]}) as http:
        yield Source(_client(address, key, max_retries, http), address)


class _Guard:
    """Lets only GET requests leave, and sends the key to no other server than the source."""

    def __init__(self, address: Address) -> None:
        """`address` is the only server that gets the key."""
        url = httpx2.URL(address.base_url)
        self._origin = (url.scheme, url.host, url.port)

    def check(self, request: httpx2.Request) -> None:
        """Takes the key out of a request to another server, before it leaves. Raises Forbidden unless it is a GET."""
        if request.method != "GET":
            raise Forbidden(
                "source_is_read_only", f"An import only reads from the source: {request.method} is not allowed."
            )
        if (request.url.scheme, request.url.host, request.url.port) != self._origin:
            for name in _KEY_HEADERS:
                request.headers.pop(name, None)  # of a redirect to another server


def _client(address: Address, key: str, max_retries: int, http: httpx2.Client) -> OpenAI:
    """The SDK's client for the dialect: AzureOpenAI for dated versions, else OpenAI, api-version in the query."""
    if address.dialect is SourceDialect.AZURE:
        return AzureOpenAI(
            azure_endpoint=address.base_url,
            api_version=address.api_version,
            api_key=key,
            max_retries=max_retries,
            http_client=http,
        )
    query = {"api-version": address.api_version} if address.api_version else None
    return OpenAI(
        base_url=address.base_url, api_key=key, max_retries=max_retries, default_query=query, http_client=http
    )


def _limited(host: str, error: openai.RateLimitError) -> RateLimited:
    """The error for a 429 that outlasted the SDK's retries; `retry_after_s` is the source's own, or 60."""
    retry_after = error.response.headers.get("retry-after", "")
    wait_s = float(retry_after) if retry_after.replace(".", "", 1).isdigit() else 60.0
    return RateLimited(
        "source_rate_limited",
        f"{host} limits our requests now (429). Run the same command again in {wait_s:g} s: "
        "it continues where it stopped.",
        wait_s,
    )


def _message(error: openai.APIStatusError) -> str:
    """The source's own words, 300 characters of them."""
    message = error.body.get("message") if isinstance(error.body, dict) else None
    return str(message or "no reason given")[:300]
