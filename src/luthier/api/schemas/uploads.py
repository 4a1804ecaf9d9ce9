"""Uploads in parts as the wire shows them, and the form that brings a part."""

from luthier.api.dialects import Dialect
from luthier.api.schemas import files
from luthier.api.schemas import json_schema as js
from luthier.core.states import UploadStatus

PART_FORM: js.Schema = {
    "type": "object",
    "properties": {"data": {**js.BYTES, "minLength": 1, "description": "The part's bytes, 64 MiB at most."}},
    "required": ["data"],
}


def upload(dialect: Dialect) -> js.Schema:
    return js.thing(
        {
            "id": js.TEXT,
            "object": js.const("upload"),
            "bytes": js.WHOLE | {"description": "How many the whole file is to have."},
            "created_at": js.UNIX,
            "expires_at": js.UNIX,
            "filename": js.TEXT,
            "purpose": js.words(sorted(dialect.purposes)),
            "status": js.words(UploadStatus),
            "file": js.Maybe(files.file(dialect)),
        },
        dialect.keeps_null,
        "A file on its way in parts; `file` is what it has become, once it is completed.",
    )


def part(dialect: Dialect) -> js.Schema:
    fields: dict[str, js.Schema | js.Maybe | js.Optional] = {
        "id": js.TEXT,
        "object": js.const("upload.part"),
        "created_at": js.UNIX,
        "upload_id": js.TEXT,
    }
    if dialect.explains_files:
        fields["azure_block_id"] = js.TEXT
    return js.thing(fields)
