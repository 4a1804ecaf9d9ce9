"""/files: upload as a stream, import from a URL, list, get, content, report, delete."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from luthier.api import auth, multipart, ranges, streaming
from luthier.api.bodies import ExpiryBody, ImportBody
from luthier.api.dialects import Dialect
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.models import File, Principal
from luthier.core.ports import Blob
from luthier.core.states import FilePurpose, Method
from luthier.service import files, imports, reports


def add(router: APIRouter, dialect: Dialect, services: Services) -> None:
    context = services.context
    Caller = Annotated[Principal, Depends(auth.require_key(context))]

    @router.post("/files", status_code=dialect.created_status)
    async def upload(request: Request, caller: Caller) -> Response:
        file = await run_in_threadpool(_receive, request, dialect, services, caller.resource.id)
        return _created(request, dialect, file)

    @router.post("/files/import", status_code=dialect.created_status)
    def import_file(request: Request, body: ImportBody, caller: Caller) -> Response:
        purpose = files.check_purpose(body.purpose, dialect.purposes)
        expires_after_s = body.expires_after.within(dialect.min_expiry_s) if body.expires_after else None
        file = imports.create(context, caller.resource.id, body.filename, purpose, body.content_url, expires_after_s)
        services.wake()
        return _created(request, dialect, file)

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
    def get_content(file_id: str, request: Request, caller: Caller) -> Response:
        return _content(request, dialect, services, files.get(context, caller.resource.id, file_id))

    @router.head("/files/{file_id}/content")
    def head_content(file_id: str, request: Request, caller: Caller) -> Response:
        answer = _content(request, dialect, services, files.get(context, caller.resource.id, file_id))
        return Response(status_code=answer.status_code, headers=dict(answer.headers))

    @router.get("/files/{file_id}/report")
    def get_report(file_id: str, caller: Caller, model: str | None = None, method: Method | None = None) -> Response:
        file = files.get(context, caller.resource.id, file_id)
        return JSONResponse(reports.get(context, file, model, method))

    @router.delete("/files/{file_id}")
    def delete_file(file_id: str, caller: Caller) -> dict[str, Any]:
        files.delete(context, caller.resource.id, file_id)
        return {"id": file_id, "object": "file", "deleted": True}


def _created(request: Request, dialect: Dialect, file: File) -> JSONResponse:
    location = request.url.replace(path=f"{dialect.prefix}/files/{file.id}")
    headers = {"Location": str(location)} if dialect.sends_location else None
    return JSONResponse(dialect.file(file), dialect.created_status, headers)


def _receive(request: Request, dialect: Dialect, services: Services, resource_id: str) -> File:
    """Reads the form, its parts in any order, in a worker thread; the file streams into the blob store."""
    context = services.context
    fields: dict[str, str] = {}
    received: tuple[str, Blob] | None = None
    try:
        for part in multipart.read(request.headers.get("content-type", ""), streaming.pulled(request)):
            if isinstance(part, multipart.Field):
                fields[part.name] = part.value
            elif part.name == "file" and received is None:
                if "purpose" in fields:  # before half a gigabyte is stored for nothing
                    files.check_purpose(fields["purpose"], dialect.purposes)
                    _expiry(fields, dialect)
                received = (part.filename, files.receive(context, part.chunks))
        purpose = files.check_purpose(fields.get("purpose"), dialect.purposes)
        expires_after_s = _expiry(fields, dialect)
        if received is None:
            raise InvalidRequest("missing_file", "The form field file is missing; send the JSONL file in it.", "file")
        return files.create(context, resource_id, received[0], purpose, received[1], expires_after_s)
    except LuthierError:
        if received is not None:
            files.discard(context, received[1])
        raise


def _expiry(fields: dict[str, str], dialect: Dialect) -> int | None:
    """Seconds of `expires_after`, in OpenAI's spelling with brackets or in A2504's with dots. Raises InvalidRequest."""
    sent = {
        spelling: {name: fields[key] for name in ("anchor", "seconds") if (key := spelling.format(name)) in fields}
        for spelling in ("expires_after[{}]", "expires_after.{}")
    }
    bracketed, dotted = sent.values()
    if not bracketed and not dotted:
        return None
    if bracketed and dotted:
        text = "expires_after is sent with brackets and with dots; send it once."
        raise InvalidRequest("invalid_expires_after", text, "expires_after")
    try:
        body = ExpiryBody.model_validate(bracketed or dotted)
    except ValidationError as error:
        text = "expires_after needs expires_after[anchor]=created_at and expires_after[seconds]=a whole number."
        raise InvalidRequest("invalid_expires_after", text, "expires_after") from error
    return body.within(dialect.min_expiry_s)


def _content(request: Request, dialect: Dialect, services: Services, file: File) -> Response:
    """The file's bytes, or the range that is asked for; results.csv is what it says, all else is bytes."""
    etag = f'"{file.sha256}"'
    headers = {"Accept-Ranges": "bytes", "ETag": etag}
    kind = "text/csv" if file.purpose is FilePurpose.FINE_TUNE_RESULTS else "application/octet-stream"
    try:
        part = ranges.asked(request.headers, file.bytes, etag)
    except ranges.Unsatisfiable:
        text = f"{file.id} has {file.bytes} bytes; the Range header asks for none of them."
        shape = dialect.error(InvalidRequest("range_not_satisfiable", text, "Range"))
        return JSONResponse(shape, 416, headers | {"Content-Range": f"bytes */{file.bytes}"})
    if part is None:
        chunks = files.content(services.context, file)
        headers["Content-Length"] = str(file.bytes)
        return StreamingResponse(chunks, media_type=kind, headers=headers)
    headers |= {"Content-Length": str(part.length), "Content-Range": part.content_range(file.bytes)}
    chunks = files.content(services.context, file, part.start, part.length)
    return StreamingResponse(chunks, 206, media_type=kind, headers=headers)
