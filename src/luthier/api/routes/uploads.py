"""/uploads: create, parts as streams, complete, cancel. For files that are sent in pieces.

Parts are stored as they arrive; `complete` joins them to a file.
"""

from functools import partial
from typing import Annotated

from fastapi import Depends, Request, Response

from luthier.api.auth import authentication
from luthier.api.auth.revocation import WatchedRequest
from luthier.api.dialects.dialects import Dialect
from luthier.api.http import thread_pools
from luthier.api.http.thread_pools import Workers
from luthier.api.intake import body_stream, multipart
from luthier.api.requests.file_and_job_bodies import CompleteUploadBody, UploadBody
from luthier.api.routing import json_schema as js
from luthier.api.routing.json_response import JsonResponse
from luthier.api.routing.operation import FORM_OVERHEAD_BYTES, json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest
from luthier.core.models import Principal, UploadPart
from luthier.core.roles import Action
from luthier.service.files import files, uploads
from luthier.service.files.uploads import MAX_PART_BYTES

_PART_FORM: js.Schema = {
    "type": "object",
    "properties": {"data": {**js.BYTES, "minLength": 1, "description": "The part's bytes, 64 MiB at most."}},
    "required": ["data"],
}


def add_routes(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the dialect's routes of uploads."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]
    _add_ends(router, dialect, services)

    @router.post("/uploads", Action.FILES_WRITE, "Create an upload in parts", json_reply(dialect.upload))
    def create_upload(body: UploadBody, caller: Caller) -> object:
        """Announces a file: its parts are sent next, within an hour unless the operator has set another time."""
        request = uploads.UploadRequest(
            filename=body.filename,
            purpose=files.check_purpose(body.purpose),
            bytes=body.bytes,
            mime_type=body.mime_type,
            expires_after_s=body.expires_after.within(dialect.min_expiry_s) if body.expires_after else None,
        )
        return dialect.upload.from_upload(uploads.create(context, caller.resource.id, request))

    @router.post(
        "/uploads/{upload_id}/parts",
        Action.FILES_WRITE,
        "Add one part; parts may be sent in parallel and in any order",
        json_reply(dialect.upload_part),
        form=_PART_FORM,
        max_body_bytes=MAX_PART_BYTES + FORM_OVERHEAD_BYTES,
    )
    async def add_part(upload_id: str, request: Request, caller: Caller) -> Response:
        # Waits for an upload slot, then stores the part as it comes; ends if the caller's key is revoked meanwhile.
        with services.rights.watching(context, authentication.credentials_of(request)) as right:
            async with services.intake.upload(caller):
                part = await _receive(request, services, right, upload_id)
        return JsonResponse(dialect.upload_part.from_part(part))


def _add_ends(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the two ways in which an upload ends."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]
    upload_reply = json_reply(dialect.upload)

    @router.post(
        "/uploads/{upload_id}/complete",
        Action.FILES_WRITE,
        "Make a file of the parts, in the order given",
        upload_reply,
    )
    async def complete_upload(request: Request, upload_id: str, body: CompleteUploadBody, caller: Caller) -> Response:
        """Answers once the parts are joined. The same call again gives the same answer."""
        still_may = partial(authentication.require_still_authorized, context, authentication.credentials_of(request))
        own, part_ids = caller.resource.id, body.part_ids
        call = partial(uploads.complete, context, own, upload_id, part_ids, body.md5, still_may)
        return JsonResponse(dialect.upload.from_upload(*await thread_pools.run(Workers.BYTES, call)))

    @router.post("/uploads/{upload_id}/cancel", Action.FILES_WRITE, "Cancel an upload", upload_reply)
    def cancel_upload(upload_id: str, caller: Caller) -> object:
        """Deletes its parts; 409 if it has ended."""
        return dialect.upload.from_upload(uploads.cancel(context, caller.resource.id, upload_id))


async def _receive(request: Request, services: Services, watched: WatchedRequest, upload_id: str) -> UploadPart:
    """Reads the form as it comes; the first `data` streams into the blob store, then the part's row is written.

    Raises InvalidRequest for a form without it, and 401 or 403 as soon as the caller may send no more.
    """
    stored: UploadPart | None = None
    resource_id = watched.credentials.caller.resource.id
    async with body_stream.batches(request.state.incoming) as batches:
        content_type = request.headers.get("content-type", "")
        async for part in multipart.read_form(content_type, watched.while_authorized(batches), "data"):
            if part.name == "data" and isinstance(part, multipart.FilePart) and stored is None:
                chunks = watched.while_authorized(part.chunks)
                stored = await uploads.add_part(services.context, resource_id, upload_id, chunks)
    if stored is None:
        raise InvalidRequest("missing_data", "The form field data is missing; send the part's bytes in it.", "data")
    return stored
