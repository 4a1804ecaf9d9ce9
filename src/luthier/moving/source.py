"""An account elsewhere, read through the openai SDK: lists page by page, files as streams, GET requests alone."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
from openai import AzureOpenAI, DefaultHttpx2Client, OpenAI

from luthier.core.errors import (
    Forbidden,
    LuthierError,
    NotFound,
    RateLimited,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
)
from luthier.durable import room_for
from luthier.moving import records
from luthier.moving.addresses import Address, SourceDialect
from luthier.moving.records import Told

MAX_LISTED = 200_000
"""More of one list than any account holds: a source that tells on and on is broken."""
PAGE = 100
MAX_RETRIES = 5
DOWNLOAD_TRIES = 3
CHUNK_BYTES = 256 * 1024
_TIMEOUT = httpx2.Timeout(60.0, connect=10.0)
_KEY_HEADERS = ("authorization", "api-key")


class Source:
    """One account. Waits as long as its 429 answers ask for, by the SDK's own retries."""

    def __init__(self, client: OpenAI, address: Address, most: int = MAX_LISTED) -> None:
        self._client, self.address, self._most = client, address, most

    def jobs(self) -> list[Told]:
        """Every fine-tuning job, newest first."""
        return self._listed("/fine_tuning/jobs", {"limit": PAGE})

    def files(self) -> list[Told]:
        """Every file of the account, whatever its purpose."""
        return self._listed("/files", {})

    def file(self, file_id: str) -> Told | None:
        """A file by its id; None where it is no more."""
        try:
            return self._object(f"/files/{file_id}", {})
        except NotFound:
            return None

    def events(self, job_id: str) -> list[Told]:
        """A job's events, oldest first."""
        return self._listed(f"/fine_tuning/jobs/{job_id}/events", {"limit": PAGE})[::-1]

    def checkpoints(self, job_id: str) -> list[Told]:
        return self._listed(f"/fine_tuning/jobs/{job_id}/checkpoints", {"limit": PAGE})

    def download(self, file_id: str, path: Path, most_bytes: int, moved: Callable[[int], None]) -> tuple[int, str]:
        """Writes a file's bytes; returns their count and sha256. Raises UpstreamFailed, and after `most_bytes`."""
        for tried in range(1, DOWNLOAD_TRIES + 1):
            try:
                return self._stream(file_id, path, most_bytes, moved)
            except httpx2.HTTPError as error:  # in the middle of the stream, where the SDK tries no more
                if tried == DOWNLOAD_TRIES:
                    raise UpstreamFailed("source_broke_off", "the source broke off while sending it") from error
        raise AssertionError("unreachable")

    def _stream(self, file_id: str, path: Path, most_bytes: int, moved: Callable[[int], None]) -> tuple[int, str]:
        count, digest = 0, hashlib.sha256()
        moved(0)
        with (
            self._readable(),
            self._client.files.with_streaming_response.content(file_id) as response,
            room_for(path),
            path.open("wb") as target,
        ):
            for chunk in response.iter_bytes(CHUNK_BYTES):
                count += len(chunk)
                if count > most_bytes:
                    raise UpstreamFailed("source_file_too_long", f"the source sends more than {most_bytes} bytes of it")
                digest.update(chunk)
                target.write(chunk)
                moved(count)
        return count, digest.hexdigest()

    def _listed(self, path: str, query: dict[str, Any]) -> list[Told]:
        """All pages of a list, each object once. A page that brings nothing new ends it: Azure's lists of files know
        no `after` and tell no `has_more`, and answer the same again."""
        found: dict[str, Told] = {}
        asked = dict(query)
        while True:
            page = self._object(path, asked)
            data = page.get("data")
            if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
                raise self._no_api()
            fresh = {records.identifier(item): item for item in data}
            known = len(found)
            found |= {name: item for name, item in fresh.items() if name not in found}
            if len(found) == known or page.get("has_more") is False:
                return list(found.values())
            if len(found) > self._most:
                raise UpstreamFailed(
                    "source_has_no_end",
                    f"{self.address.host} tells of more than {self._most} things under {path} and of no end; "
                    "nothing was brought of it.",
                )
            asked = query | {"after": list(fresh)[-1]}

    def _object(self, path: str, query: dict[str, Any]) -> Told:
        with self._readable():
            answer: Any = self._client.get(path, cast_to=object, options={"params": query})
        if not isinstance(answer, dict):
            raise self._no_api()
        return answer

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Errors of the SDK as errors of ours. The source's own words on a refused key are not repeated."""
        host = self.address.host
        try:
            yield
        except openai.AuthenticationError as error:
            variable = self.address.key_variables[-1]
            message = f"{host} refuses the key (401). Give that account's key by {variable} or --api-key."
            raise Unauthenticated("source_refuses_key", message) from error
        except openai.PermissionDeniedError as error:
            raise Forbidden("source_forbids", f"{host} does not allow it to this key (403)") from error
        except openai.NotFoundError as error:
            raise NotFound("not_at_source", f"{host} has it no more (404)") from error
        except openai.RateLimitError as error:
            raise _limited(host, error) from error
        except openai.APIStatusError as error:
            raise UpstreamFailed("source_failed", f"{host} answers {error.status_code}: {_words(error)}") from error
        except openai.APIConnectionError as error:
            message = f"No answer from {host}. Check --from and the network; what was brought stays."
            raise Unavailable("source_unreachable", message) from error
        except openai.APIError as error:
            raise self._no_api() from error

    def _no_api(self) -> LuthierError:
        return UpstreamFailed(
            "source_is_no_api", f"{self.address.base_url} does not speak OpenAI's API. Check the address by --from."
        )


@contextmanager
def opened(address: Address, key: str, max_retries: int = MAX_RETRIES) -> Iterator[Source]:
    """A source for as long as the block lasts."""
    guard = _Guard(address)
    with DefaultHttpx2Client(timeout=_TIMEOUT, event_hooks={"request": [guard.check]}) as http:
        yield Source(_client(address, key, max_retries, http), address)


class _Guard:
    """What leaves for the source: GET alone, and the key to no other server than the one it is for."""

    def __init__(self, address: Address) -> None:
        url = httpx2.URL(address.base_url)
        self._origin = (url.scheme, url.host, url.port)

    def check(self, request: httpx2.Request) -> None:
        if request.method != "GET":
            raise Forbidden("source_is_read_only", f"A move sends nothing back: {request.method} is not allowed.")
        if (request.url.scheme, request.url.host, request.url.port) != self._origin:
            for name in _KEY_HEADERS:
                request.headers.pop(name, None)  # where a redirect leads away


def _client(address: Address, key: str, max_retries: int, http: httpx2.Client) -> OpenAI:
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
    told = error.response.headers.get("retry-after", "")
    wait_s = float(told) if told.replace(".", "", 1).isdigit() else 60.0
    return RateLimited(
        "source_rate_limited",
        f"{host} has no more room for our requests now (429). Run the same command again in {wait_s:g} s: "
        "it goes on from here.",
        wait_s,
    )


def _words(error: openai.APIStatusError) -> str:
    told = error.body.get("message") if isinstance(error.body, dict) else None
    return str(told or "no reason given")[:300]
