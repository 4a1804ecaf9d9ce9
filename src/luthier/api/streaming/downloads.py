"""A file's bytes as a streamed answer that ends if the caller's key is revoked."""

from collections.abc import Iterator, Mapping
from urllib.parse import quote

from fastapi.responses import StreamingResponse
from starlette.types import Send

from luthier.api.auth.authentication import Credentials
from luthier.api.auth.revocation import Rights
from luthier.core.errors import LuthierError
from luthier.service.context import Context


def attachment_headers(filename: str) -> dict[str, str]:
    """The headers that make a browser save an answer and never show it: a user's HTML is no page of this origin."""
    return {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='', errors='replace')}",
        "X-Content-Type-Options": "nosniff",
    }


class Download(StreamingResponse):
    """The answer with the bytes of a file, or of a range of it; `kind` is the content type.

    Its body cannot hold an error: if the caller's key is revoked, the connection is closed before the end, so that no
    client takes the file for complete.
    """

    def __init__(
        self,
        chunks: Iterator[bytes],
        context: Context,
        rights: Rights,
        credentials: Credentials,
        *,
        status: int,
        kind: str,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(chunks, status, media_type=kind, headers=headers)
        self._context = context
        self._rights = rights
        self._credentials = credentials

    async def stream_response(self, send: Send) -> None:
        """Sends the chunks, which starlette reads in threads, and checks the caller's right before each."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        with self._rights.watching(self._context, self._credentials) as standing:
            async for chunk in self.body_iterator:
                try:
                    await standing.check()
                except LuthierError:
                    return  # without the last chunk: the server closes the connection
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
