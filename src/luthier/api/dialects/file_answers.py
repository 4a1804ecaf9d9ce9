"""Files, uploads and their parts as each dialect sends them."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from msgspec import UNSET, Meta, Struct, UnsetType

from luthier.api.dialects.answer import Unix, one_of, unix
from luthier.api.dialects.status_words import AZURE_FILE_STATUS, OPENAI_FILE_STATUS
from luthier.core.models import File, Upload, UploadPart
from luthier.core.states import FilePurpose, FileStatus, UploadStatus
from luthier.service.files.files import UPLOADED_PURPOSES

UploadedPurpose = Annotated[str, one_of(sorted(UPLOADED_PURPOSES))]


class FileAnswer(Struct, kw_only=True):
    """A file that was uploaded, or that a job wrote; `bytes` is 0 while it is imported."""

    statuses: ClassVar[Mapping[FileStatus, str]]

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: Unix
    filename: str
    purpose: FilePurpose
    status: str
    # Both vendors' schemas have a file without details, and none whose details are null. A good file has none.
    status_details: str | UnsetType = UNSET
    expires_at: Unix | UnsetType = UNSET

    @classmethod
    def from_file(cls, file: File) -> Self:
        """The file in the class's own words for its status."""
        return cls(
            id=file.id,
            bytes=file.bytes,
            created_at=unix(file.created_at),
            filename=file.filename,
            purpose=file.purpose,
            status=cls.statuses[file.status],
            status_details=file.status_details or UNSET,
            expires_at=UNSET if file.expires_at is None else unix(file.expires_at),
        )


class OpenAIFile(FileAnswer, kw_only=True):
    """A file that was uploaded, or that a job wrote."""

    statuses = OPENAI_FILE_STATUS

    status: Annotated[str, one_of(OPENAI_FILE_STATUS.values())]


class FileImportError(Struct, kw_only=True):
    """Why the import of a file failed."""

    code: Literal["fileImportFailed"] = "fileImportFailed"
    message: str | None


class AzureFile(FileAnswer, kw_only=True):
    """A file that was uploaded, or that a job wrote."""

    statuses = AZURE_FILE_STATUS

    status: Annotated[str, one_of(AZURE_FILE_STATUS.values())]
    error: FileImportError | UnsetType = UNSET
    """A2212 `File.error`, in words of A1021 `ErrorCode`."""

    @classmethod
    def from_file(cls, file: File) -> Self:
        """As the base's, with `error` if the import has failed."""
        answer = super().from_file(file)
        if file.status is FileStatus.ERROR:
            answer.error = FileImportError(message=file.status_details)
        return answer


class UploadAnswer(Struct, kw_only=True):
    """A file that is uploaded in parts (A1021 `UploadResource`, OpenAI's `Upload`)."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: Annotated[int, Meta(description="The size of the complete file.")]
    created_at: Unix
    expires_at: Unix
    filename: str
    purpose: UploadedPurpose
    status: UploadStatus


class OpenAIUpload(UploadAnswer, kw_only=True):
    """A file that is uploaded in parts; `file` is what it became on completion."""

    file: OpenAIFile | None

    @classmethod
    def from_upload(cls, upload: Upload, file: File | None = None) -> Self:
        """The upload; `file` is None until it is completed."""
        return cls(**_upload_fields(upload), file=None if file is None else OpenAIFile.from_file(file))


class AzureUpload(UploadAnswer, kw_only=True):
    """A file that is uploaded in parts; `file` is what it became on completion."""

    file: AzureFile | UnsetType = UNSET

    @classmethod
    def from_upload(cls, upload: Upload, file: File | None = None) -> Self:
        """The upload; `file` None is left out."""
        return cls(**_upload_fields(upload), file=UNSET if file is None else AzureFile.from_file(file))


def _upload_fields(upload: Upload) -> dict[str, Any]:
    """The fields of an upload that both vendors have, by name."""
    return {
        "id": upload.id,
        "bytes": upload.bytes,
        "created_at": unix(upload.created_at),
        "expires_at": unix(upload.expires_at),
        "filename": upload.filename,
        "purpose": str(upload.purpose),
        "status": upload.status,
    }


class OpenAIUploadPart(Struct, kw_only=True):
    """One part of an upload."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: Unix
    upload_id: str

    @classmethod
    def from_part(cls, part: UploadPart) -> Self:
        return cls(id=part.id, created_at=unix(part.created_at), upload_id=part.upload_id)


# A1021 `UploadPartResource`.
class AzureUploadPart(Struct, kw_only=True):
    """One part of an upload."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: Unix
    upload_id: str
    azure_block_id: Annotated[str, Meta(description="The part's name as a block of a blob.")]

    @classmethod
    def from_part(cls, part: UploadPart) -> Self:
        """The part; its block id is its own id in base64, as names of blocks are."""
        block_id = b64encode(part.id.encode()).decode()
        return cls(id=part.id, created_at=unix(part.created_at), upload_id=part.upload_id, azure_block_id=block_id)
