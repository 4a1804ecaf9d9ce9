"""/luthier/exports: tuned models to take away. Their bytes need the right to change models, not only to call them."""

from typing import Annotated, Literal, Self

from fastapi import Depends, Request
from fastapi.responses import Response
from msgspec import Meta, Struct
from pydantic import BaseModel, ConfigDict, Field

from luthier.api.auth import authentication
from luthier.api.dialects import answer, dialects
from luthier.api.dialects.answer import Deleted, Unix
from luthier.api.intake import byte_ranges
from luthier.api.routing import json_schema as js
from luthier.api.routing.json_response import JsonResponse
from luthier.api.routing.operation import Reply, json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.api.streaming.downloads import Download
from luthier.core.errors import InvalidRequest
from luthier.core.exports import Export, ExportDtype, ExportFile, ExportFormat, ExportParity, ExportStatus
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.service.exports import export_downloads, exports

PATH = "/luthier/exports"
_BYTES = {"application/octet-stream": js.BYTES}
_RANGE_HEADERS = ("Accept-Ranges", "ETag")


class ExportBody(BaseModel):
    """The model or deployment to export, and in which form; without a dtype it is the format's own default."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=256)
    format: Literal["adapter", "merged", "gguf", "gguf-adapter", "ollama"]
    dtype: Literal["f32", "f16", "bf16", "q8_0"] | None = None


class ExportedFile(Struct, kw_only=True):
    """One file of a finished export."""

    name: str
    bytes: int
    sha256: str


class ExportFigures(Struct, kw_only=True):
    """What the exported files said in their own tool, beside what the trainer wrote: differences in nats."""

    tool: str
    positions: int
    max_difference: float
    mean_difference: float
    tolerance: float
    mean_tolerance: float
    top_agreement: Annotated[float, Meta(description="Share of positions whose likeliest token is the trainer's.")]

    @classmethod
    def from_parity(cls, parity: ExportParity) -> Self:
        return cls(**{name: getattr(parity, name) for name in cls.__struct_fields__})


class ExportFault(Struct, kw_only=True):
    """Why an export failed."""

    code: str
    message: str


class ModelExport(Struct, kw_only=True):
    """An export of a tuned model. It has files once its status is succeeded: their parity is proven then."""

    id: str
    object: Literal["luthier.export"] = "luthier.export"
    model: str
    format: ExportFormat
    dtype: ExportDtype
    status: ExportStatus
    created_at: Unix
    finished_at: Unix | None
    expires_at: Annotated[int | None, Meta(description="When it is deleted; null before it has ended.")]
    error: ExportFault | None
    files: list[ExportedFile]
    bytes: Annotated[int, Meta(description="Of all files together.")]
    seconds: Annotated[float | None, Meta(description="What making and proving it took.")]
    parity: ExportFigures | None

    @classmethod
    def from_export(cls, export: Export) -> Self:
        """The answer for an export."""
        result, error = export.result, export.error
        files = () if result is None else result.files
        return cls(
            id=export.id,
            model=export.model,
            format=export.format,
            dtype=export.dtype,
            status=export.status,
            created_at=answer.unix(export.created_at),
            finished_at=answer.unix_or_none(export.finished_at),
            expires_at=answer.unix_or_none(export.expires_at),
            error=None if error is None else ExportFault(code=error.code, message=error.message),
            files=[ExportedFile(name=file.name, bytes=file.bytes, sha256=file.sha256) for file in files],
            bytes=sum(file.bytes for file in files),
            seconds=None if result is None else result.seconds,
            parity=None if result is None else ExportFigures.from_parity(result.parity),
        )


class ModelExports(Struct, kw_only=True):
    """The exports of the caller's resource, newest first."""

    object: Literal["list"] = "list"
    data: list[ModelExport]


def build_router(services: Services) -> Router:
    """The routes of exports, extensions outside of every dialect."""
    router = Router(tag="exports")
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]

    @router.post(PATH, Action.MODELS_WRITE, "Export a tuned model", json_reply(ModelExport), errors=(403, 404, 429))
    def create_export(body: ExportBody, caller: Caller) -> object:
        """Answers at once; ask for the export until its status is succeeded or failed. The same again is the same."""
        dtype = None if body.dtype is None else ExportDtype(body.dtype)
        export = exports.create(context, caller.resource.id, body.model, ExportFormat(body.format), dtype)
        return ModelExport.from_export(export)

    @router.get(PATH, Action.MODELS_READ, "List exports", json_reply(ModelExports))
    def list_exports(caller: Caller) -> object:
        return ModelExports(data=[*map(ModelExport.from_export, exports.list_all(context, caller.resource.id))])

    @router.get(f"{PATH}/{{export_id}}", Action.MODELS_READ, "Get an export", json_reply(ModelExport))
    def get_export(export_id: str, caller: Caller) -> object:
        return ModelExport.from_export(exports.get(context, caller.resource.id, export_id))

    @router.delete(
        f"{PATH}/{{export_id}}", Action.MODELS_WRITE, "Delete an export", json_reply(Deleted[Literal["luthier.export"]])
    )
    def delete_export(export_id: str, caller: Caller) -> object:
        """Ends one that is being made; the model stays."""
        exports.delete(context, caller.resource.id, export_id)
        return Deleted(id=export_id, object="luthier.export")

    _add_downloads(router, services)
    return router


def _add_downloads(router: Router, services: Services) -> None:
    """Adds the routes of an export's bytes: a file or a range of it, and all files at once."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]

    @router.get(
        f"{PATH}/{{export_id}}/files/{{file_name}}",
        Action.MODELS_WRITE,
        "Get a file of an export, or a range of it",
        Reply(content=_BYTES, headers=_RANGE_HEADERS),
        Reply(content=_BYTES, status=206, headers=(*_RANGE_HEADERS, "Content-Range")),
        errors=(409, 416),
        parameters=(
            js.header("Range", "`bytes=FIRST-LAST`: a part of the file."),
            js.header("If-Range", "The part only if the ETag is still this one."),
        ),
    )
    def get_export_file(export_id: str, file_name: str, request: Request, caller: Caller) -> Response:
        """409 for an export that is not finished; 416 for a range beyond the file's end."""
        export = exports.get_succeeded(context, caller.resource.id, export_id)
        return _file(request, services, export, exports.file_of(export, file_name))

    @router.get(
        f"{PATH}/{{export_id}}/content",
        Action.MODELS_WRITE,
        "Get all files of an export as an uncompressed tar",
        Reply(content={"application/x-tar": js.BYTES}),
        errors=(409,),
    )
    def get_export_content(export_id: str, request: Request, caller: Caller) -> Response:
        """The files are in a folder of the export's id. 409 for an export that is not finished."""
        export = exports.get_succeeded(context, caller.resource.id, export_id)
        headers = {
            "Content-Length": str(export_downloads.tar_bytes(export)),
            "Content-Disposition": f'attachment; filename="{export.id}.tar"',
        }
        chunks = export_downloads.read_tar(context, export)
        credentials = authentication.credentials_of(request)
        return Download(
            chunks, context, services.rights, credentials, status=200, kind="application/x-tar", headers=headers
        )


def _file(request: Request, services: Services, export: Export, file: ExportFile) -> Response:
    """The file's bytes, or the range that is asked for: 200 or 206; 416 for an empty range."""
    etag = f'"{file.sha256}"'
    headers = {"Accept-Ranges": "bytes", "ETag": etag}
    try:
        part = byte_ranges.requested(request.headers, file.bytes, etag)
    except byte_ranges.Unsatisfiable:
        text = f"{file.name} has {file.bytes} bytes; the Range header asks for none of them."
        error = dialects.of_path(PATH).error.from_error(InvalidRequest("range_not_satisfiable", text, "Range"))
        return JsonResponse(error, 416, headers | {"Content-Range": f"bytes */{file.bytes}"})
    start, length, status = (0, file.bytes, 200) if part is None else (part.start, part.length, 206)
    headers["Content-Length"] = str(length)
    if part is not None:
        headers["Content-Range"] = part.content_range(file.bytes)
    chunks = export_downloads.read_file(services.context, export, file, start, length)
    credentials = authentication.credentials_of(request)
    return Download(
        chunks,
        services.context,
        services.rights,
        credentials,
        status=status,
        kind="application/octet-stream",
        headers=headers,
    )
