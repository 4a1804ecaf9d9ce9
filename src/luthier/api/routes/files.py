"""/files: upload as a stream, import from a URL, list, get, content, report, delete.

Bytes pass through in batches: neither direction holds a file in memory, except results.csv that is sent as base64.
"""

import asyncio
from typing import Annotated, Literal

from fastapi import Depends, Query, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from luthier.api.auth import authentication
from luthier.api.auth.revocation import WatchedRequest
from luthier.api.dialects import answer
from luthier.api.dialects.answer import Deleted
from luthier.api.dialects.dialects import Dialect
from luthier.api.dialects.report_answers import FileReport
from luthier.api.intake import body_stream, byte_ranges, multipart
from luthier.api.requests.file_and_job_bodies import ExpiryBody, ImportBody
from luthier.api.routing import json_schema as js
from luthier.api.routing.json_response import JsonResponse
from luthier.api.routing.operation import FORM_OVERHEAD_BYTES, Details, PageOf, Reply, json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.api.streaming import downloads, result_files, signed_downloads
from luthier.api.streaming.downloads import Download
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.models import File, Principal
from luthier.core.ports import Blob
from luthier.core.quotas import MAX_FILE_BYTES
from luthier.core.roles import Action
from luthier.core.states import FilePurpose, Method
from luthier.service.files import data_reports, files, url_imports
from luthier.service.files.files import MAX_EXPIRY_S, UPLOADED_PURPOSES

_BYTES = dict.fromkeys(("application/octet-stream", "text/csv", "text/plain"), js.BYTES)
_RANGE_HEADERS = ("Accept-Ranges", "ETag", "Content-Disposition", "X-Content-Type-Options")
_RANGED: Details = {
    "errors": (416,),
    "parameters": (
        js.header("Range", "`bytes=FIRST-LAST`: a part of the file."),
        js.header("If-Range", "The part only if the ETag is still this one."),
    ),
}


def add_routes(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the dialect's routes of files."""
    _add_uploads(router, dialect, services)
    _add_content(router, dialect, services)
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]

    @router.get("/files", Action.FILES_READ, "List files", json_reply(PageOf(dialect.file)))
    def list_files(
        caller: Caller,
        purpose: str | None = None,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
        order: Literal["asc", "desc"] = "desc",
    ) -> object:
        """`after` is the last id of the page before; an expired file is left out."""
        page, has_more = files.list_page(context, caller.resource.id, purpose, after, limit, order == "asc")
        return answer.page([dialect.file.from_file(file) for file in page], has_more)

    @router.get("/files/{file_id}", Action.FILES_READ, "Get a file", json_reply(dialect.file))
    def get_file(file_id: str, caller: Caller) -> object:
        return dialect.file.from_file(files.get(context, caller.resource.id, file_id))

    @router.delete("/files/{file_id}", Action.FILES_WRITE, "Delete a file", json_reply(Deleted[Literal["file"]]))
    def delete_file(file_id: str, caller: Caller) -> object:
        """A running job has its own copy and continues; a waiting one will fail with the reason."""
        files.delete(context, caller.resource.id, file_id)
        return Deleted(id=file_id, object="file")


def _add_uploads(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the two ways in which a whole file arrives."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]
    created = json_reply(
        dialect.file, dialect.created_status, required_headers=("Location",) if dialect.sends_location else ()
    )

    @router.post(
        "/files",
        Action.FILES_WRITE,
        "Upload a file",
        created,
        form=_upload_form(dialect),
        max_body_bytes=MAX_FILE_BYTES + FORM_OVERHEAD_BYTES,
    )
    async def upload(request: Request, caller: Caller) -> Response:
        """The form's parts may come in any order.

        Answers once the file is stored; a training file's rows are checked in the background.
        """
        with services.rights.watching(context, authentication.credentials_of(request)) as watched:
            async with services.intake.upload(caller):
                file = await _receive(request, dialect, services, watched)
        return _created(request, dialect, file)

    @router.post("/files/import", Action.FILES_WRITE, "Import a file from a URL", created)
    def import_file(request: Request, body: ImportBody, caller: Caller) -> Response:
        """Answers at once with a pending file, which is fetched in the background: its status says how that ended."""
        purpose = files.check_purpose(body.purpose)
        expires_after_s = body.expires_after.within(dialect.min_expiry_s) if body.expires_after else None
        file = url_imports.create(
            context, caller.resource.id, body.filename, purpose, body.content_url, expires_after_s
        )
        services.wake()
        return _created(request, dialect, file)


def _add_content(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds a file's bytes, and the report on them. They only read."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]

    @router.get(
        "/files/{file_id}/content",
        Action.FILES_READ,
        "Get a file's bytes, or a range of them",
        Reply(content=_BYTES, headers=_RANGE_HEADERS),
        Reply(content=_BYTES, status=206, headers=(*_RANGE_HEADERS, "Content-Range")),
        Reply(status=signed_downloads.STATUS, headers=("Cache-Control",), required_headers=("Location",)),
        **_RANGED,
    )
    def get_content(file_id: str, request: Request, caller: Caller) -> Response:
        """409 for a file that is still being imported, or whose import failed; 416 for a range beyond its end. 302 to
        a URL of the blob store that is signed for a short time, where the operator has switched that on.
        """
        return _content(request, dialect, services, files.get(context, caller.resource.id, file_id))

    @router.head(
        "/files/{file_id}/content",
        Action.FILES_READ,
        "Get the size of a file's bytes",
        Reply(headers=_RANGE_HEADERS),
        Reply(status=206, headers=(*_RANGE_HEADERS, "Content-Range")),
        **_RANGED,
    )
    def head_content(file_id: str, request: Request, caller: Caller) -> Response:
        """The headers of the same GET, without the bytes."""
        content = _content(request, dialect, services, files.get(context, caller.resource.id, file_id))
        return Response(status_code=content.status_code, headers=dict(content.headers))

    @router.get(
        "/files/{file_id}/report",
        Action.FILES_READ,
        "Get every problem and the statistics of a training file",
        json_reply(FileReport),
        errors=(400, 413),
    )
    def get_report(file_id: str, caller: Caller, model: str | None = None, method: Method | None = None) -> object:
        """The stored report, or a new one for another model or method: 413 if the file is too large for that."""
        return data_reports.get(context, files.get(context, caller.resource.id, file_id), model, method)


def _created(request: Request, dialect: Dialect, file: File) -> JsonResponse:
    """The answer for a new file, with the dialect's status, and its Location where the dialect sends one."""
    location = request.url.replace(path=f"{dialect.prefix}/files/{file.id}")
    headers = {"Location": str(location)} if dialect.sends_location else None
    return JsonResponse(dialect.file.from_file(file), dialect.created_status, headers)


def _upload_form(dialect: Dialect) -> js.Schema:
    """The form of an upload: `expires_after` in OpenAI's spelling or in A2504's, with both of its fields."""
    seconds = {"type": "integer", "minimum": dialect.min_expiry_s, "maximum": MAX_EXPIRY_S}
    spellings = [("expires_after[anchor]", "expires_after[seconds]"), ("expires_after.anchor", "expires_after.seconds")]
    properties: js.Schema = {
        "purpose": {**js.enum(sorted(UPLOADED_PURPOSES)), "description": "What the file is for."},
        "file": {
            **js.BYTES,
            "minLength": 1,
            "description": "JSONL, one training example a line, 512 MiB at most. Its filename is kept.",
        },
    }
    together: dict[str, list[str]] = {}
    for anchor, after in spellings:
        properties |= {anchor: js.const("created_at"), after: seconds}
        together |= {anchor: [after], after: [anchor]}
    return {
        "type": "object",
        "properties": properties,
        "required": ["purpose", "file"],
        "dependentRequired": together,
        "description": "expires_after with brackets or with dots, as the client spells it; not both.",
    }


async def _receive(request: Request, dialect: Dialect, services: Services, watched: WatchedRequest) -> File:
    """Reads the form, its parts in any order; the file streams into the blob store, and the row is written last.

    No thread waits for the caller. Ends as soon as it may send no more. Raises InvalidRequest for the form, TooLarge,
    TooSlow, QuotaExceeded; then, or if the request is cancelled, the stored bytes are deleted.
    """
    context, resource_id = services.context, watched.credentials.caller.resource.id
    fields: dict[str, str] = {}
    received: tuple[str, Blob] | None = None
    others: list[str] = []
    try:
        async with body_stream.batches(request.state.incoming) as batches:
            content_type = request.headers.get("content-type", "")
            async for part in multipart.read_form(content_type, watched.while_authorized(batches)):
                if isinstance(part, multipart.Field):
                    fields[part.name] = part.value
                elif part.name == "file" and received is None:
                    if "purpose" in fields:  # before half a gigabyte is stored for nothing
                        files.check_purpose(fields["purpose"])
                        _expiry(fields, dialect)
                    received = (part.filename, await files.receive(context, part.chunks))
                else:
                    others.append(part.name[:64])
        purpose = files.check_purpose(fields.get("purpose"))
        expires_after_s = _expiry(fields, dialect)
        if received is None:
            raise _no_file(others)
        await watched.check()
        return await run_in_threadpool(
            files.create, context, resource_id, received[0], purpose, received[1], expires_after_s
        )
    except (LuthierError, asyncio.CancelledError):
        if received is not None:
            await run_in_threadpool(files.discard, context, received[1])
        raise


def _no_file(others: list[str]) -> InvalidRequest:
    """The 400 for a form without a file; `others` are the fields in which one came instead."""
    text = "The form field file is missing; send the JSONL file in it, with curl as -F file=@rows.jsonl."
    if others:
        text += f" A file came in the field {others[0]!r}; its name must be 'file'."
    return InvalidRequest("missing_file", text, "file")


def _expiry(fields: dict[str, str], dialect: Dialect) -> int | None:
    """Seconds of `expires_after`, in OpenAI's spelling with brackets or in A2504's with dots; None if there is none.

    Raises InvalidRequest for both spellings, another anchor, or a time outside of the dialect's range.
    """
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
    """The file's bytes, or the range that is asked for: a Download of status 200 or 206, or a redirect to the blob
    store; 416 for an empty range.

    results.csv is text/csv, or base64 for OpenAI's SDKs; all else is bytes. Raises Conflict for a file that is not
    imported.
    """
    headers = {"Accept-Ranges": "bytes"} | downloads.attachment_headers(file.filename)
    is_result = file.purpose is FilePurpose.FINE_TUNE_RESULTS
    kind, length, etag = "text/csv" if is_result else "application/octet-stream", file.bytes, f'"{file.sha256}"'
    encoded: bytes | None = None
    if dialect.encodes_results and result_files.is_results(file):
        headers["Vary"] = "Accept"
        if result_files.are_encoded(dialect, file, request, services.results_as):
            encoded = result_files.encoded(b"".join(files.content(services.context, file)))
            kind, length, etag = "text/plain", len(encoded), f'"{file.sha256}-base64"'
    headers["ETag"] = etag
    try:
        part = byte_ranges.requested(request.headers, length, etag)
    except byte_ranges.Unsatisfiable:
        text = f"{file.id} has {length} bytes; the Range header asks for none of them."
        error = dialect.error.from_error(InvalidRequest("range_not_satisfiable", text, "Range"))
        return JsonResponse(error, 416, headers | {"Content-Range": f"bytes */{length}"})
    if encoded is None and (redirect := signed_downloads.redirect(services.context, request, file, part)) is not None:
        return redirect
    start, asked, status = (0, length, 200) if part is None else (part.start, part.length, 206)
    headers["Content-Length"] = str(asked)
    if part is not None:
        headers["Content-Range"] = part.content_range(length)
    if encoded is not None:
        chunks = iter([encoded[start : start + asked]])
    else:
        chunks = files.content(services.context, file, start, None if part is None else asked)
    credentials = authentication.credentials_of(request)
    return Download(chunks, services.context, services.rights, credentials, status=status, kind=kind, headers=headers)
