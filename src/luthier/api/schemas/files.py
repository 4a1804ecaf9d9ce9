"""Files as the wire shows them, and the form that brings one."""

from luthier.api.dialects import Dialect
from luthier.api.schemas import json_schema as js
from luthier.core.states import FilePurpose, FileStatus

FORM: js.Schema = {
    "type": "object",
    "properties": {
        "purpose": {**js.words([FilePurpose.FINE_TUNE]), "description": "What the file is for."},
        "file": {
            **js.BYTES,
            "minLength": 1,
            "description": "JSONL, one training example a line, 512 MiB at most. Its filename is kept.",
        },
    },
    "required": ["purpose", "file"],
}


def file(dialect: Dialect) -> js.Schema:
    return js.thing(
        {
            "id": js.TEXT,
            "object": js.const("file"),
            "bytes": js.WHOLE,
            "created_at": js.UNIX,
            "filename": js.TEXT,
            "purpose": js.words(FilePurpose),
            "status": js.words(FileStatus),
            "status_details": js.Optional(js.TEXT),
            "expires_at": js.Optional(js.UNIX),
        },
        dialect.keeps_null,
        "A file that was uploaded, or that a job wrote.",
    )


def deleted(kind: str) -> js.Schema:
    return js.thing({"id": js.TEXT, "object": js.const(kind), "deleted": js.const(True)})
