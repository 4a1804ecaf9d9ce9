"""What a caller has sent, in being without a request."""

import asyncio
from collections.abc import AsyncIterator, Iterable

from luthier.core.models import UploadPart
from luthier.core.ports import Blob
from luthier.service.context import Context
from luthier.service.files import files, uploads


def blob(context: Context, chunks: Iterable[bytes]) -> Blob:
    """The bytes of a file."""
    return asyncio.run(files.receive(context, _coming(chunks)))


def part(context: Context, resource_id: str, upload_id: str, chunks: Iterable[bytes]) -> UploadPart:
    """A part of an upload."""
    return asyncio.run(uploads.add_part(context, resource_id, upload_id, _coming(chunks)))


async def _coming(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
