"""/files: upload as a stream, list, get, content, delete."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal

from anyio import from_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from luthier.api import auth, multipart
from luthier.api.dialects import Dialect
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.models import File, Principal
from luthier.core.ports import Blob
from luthier.service import files


def add(router: APIRouter, dialect: Dialect, services: Services) -> None:
    context = services.context
    Caller = Annotated[Principal, Depends(auth.require_key(context))]

    @router.post("/files", status_code=dialect.created_status)
    async def upload(request: Request, caller: Caller) -> Response:
        file = await run_in_threadpool(_receive, request, services, caller.resource.id)
        headers = {"Location": str(request.url.replace(path=f"{request.url.path}/{file.id}"))}
        return JSONResponse(dialect.file(file), dialect.created_status, headers if dialect.sends_location else None)

    @router.get("/files")
    def list_files(
        caller: Caller,
        purpose: str | None = None,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
        order: Literal["asc", "desc"] = "desc",
    ) -> dict[str, Any]:
        found, more = files.list_page(context, caller.resource.id, purpose, after, limit, order == "asc")
        return dialect.page([dialect.file(file) for file in found], more)

    @router.get("/files/{file_id}")
    def get_file(file_id: str, caller: Caller) -> dict[str, Any]:
        return dialect.file(files.get(context, caller.resource.id, file_id))

    @router.get("/files/{file_id}/content")
    def get_content(file_id: str, caller: Caller) -> StreamingResponse:
        file = files.get(context, caller.resource.id, file_id)
        return StreamingResponse(
            files.content(context, file),
            media_type="application/octet-stream",
            headers={"Content-Length": str(file.bytes)},
        )

    @router.delete("/files/{file_id}")
    def delete_file(file_id: str, caller: Caller) -> dict[str, Any]:
        files.delete(context, caller.resource.id, file_id)
        return {"id": file_id, "object": "file", "deleted": True}


def _receive(request: Request, services: Services, resource_id: str) -> File:
    """Reads the form, its parts in any order, in a worker thread; the file streams into the blob store."""
    context = services.context
    purpose: str | None = None
    received: tuple[str, Blob] | None = None
    try:
        for part in multipart.read(request.headers.get("content-type", ""), _pulled(request)):
            if isinstance(part, multipart.Field):
                purpose = part.value if part.name == "purpose" else purpose
            elif part.name == "file" and received is None:
                if purpose is not None:
                    files.check_purpose(purpose)  # before half a gigabyte is stored for nothing
                received = (part.filename, files.receive(context, part.chunks))
        if received is None:
            raise InvalidRequest("missing_file", "The form field file is missing; send the JSONL file in it.", "file")
        return files.create(context, resource_id, received[0], purpose, received[1])
    except LuthierError:
        if received is not None:
            files.discard(context, received[1])
        raise


def _pulled(request: Request) -> Iterator[bytes]:
    """The body's chunks for a worker thread, one at a time: what is not read yet stays with the client."""
    stream = request.stream()
    while (chunk := from_thread.run(_next, stream)) is not None:
        yield chunk


async def _next(stream: AsyncIterator[bytes]) -> bytes | None:
    try:
        return await anext(stream, None)
    except ClientDisconnect as error:
        raise InvalidRequest("upload_broke_off", "The client went away in the middle of the upload.", "file") from error
