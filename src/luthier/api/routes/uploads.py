"""/uploads: create, parts as streams, complete, cancel."""

from base64 import b64encode
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from luthier.api import auth, multipart, streaming
from luthier.api.bodies import CompleteUploadBody, UploadBody
from luthier.api.dialects import Dialect, unix
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest
from luthier.core.models import Principal, UploadPart
from luthier.service import files, uploads


def add(router: APIRouter, dialect: Dialect, services: Services) -> None:
    context = services.context
    Caller = Annotated[Principal, Depends(auth.require_key(context))]

    @router.post("/uploads")
    def create_upload(body: UploadBody, caller: Caller) -> dict[str, Any]:
        request = uploads.UploadRequest(
            filename=body.filename,
            purpose=files.check_purpose(body.purpose, dialect.purposes),
            bytes=body.bytes,
            mime_type=body.mime_type,
            expires_after_s=body.expires_after.within(dialect.min_expiry_s) if body.expires_after else None,
        )
        return dialect.upload(uploads.create(context, caller.resource.id, request))

    @router.post("/uploads/{upload_id}/parts")
    async def add_part(upload_id: str, request: Request, caller: Caller) -> dict[str, Any]:
        part = await run_in_threadpool(_receive, request, services, caller.resource.id, upload_id)
        return _part(dialect, part)

    @router.post("/uploads/{upload_id}/complete")
    def complete_upload(upload_id: str, body: CompleteUploadBody, caller: Caller) -> dict[str, Any]:
        upload, file = uploads.complete(context, caller.resource.id, upload_id, body.part_ids, body.md5)
        return dialect.upload(upload, file)

    @router.post("/uploads/{upload_id}/cancel")
    def cancel_upload(upload_id: str, caller: Caller) -> dict[str, Any]:
        return dialect.upload(uploads.cancel(context, caller.resource.id, upload_id))


def _part(dialect: Dialect, part: UploadPart) -> dict[str, Any]:
    shape = {"id": part.id, "object": "upload.part", "created_at": unix(part.created_at), "upload_id": part.upload_id}
    if dialect.explains_files:  # A1021 `UploadPartResource`: what a block blob would call the part
        shape["azure_block_id"] = b64encode(part.id.encode()).decode()
    return shape


def _receive(request: Request, services: Services, resource_id: str, upload_id: str) -> UploadPart:
    """Reads the form in a worker thread; the first `data` streams into the blob store and is the part."""
    stored: UploadPart | None = None
    for part in multipart.read(request.headers.get("content-type", ""), streaming.pulled(request)):
        if part.name == "data" and isinstance(part, multipart.FilePart) and stored is None:
            stored = uploads.add_part(services.context, resource_id, upload_id, part.chunks)
    if stored is None:
        raise InvalidRequest("missing_data", "The form field data is missing; send the part's bytes in it.", "data")
    return stored
