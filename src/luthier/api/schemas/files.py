"""Files as the wire shows them, and the form that brings one."""

from luthier.api.dialects import Dialect
from luthier.api.schemas import json_schema as js
from luthier.core.states import FilePurpose
from luthier.service.files import MAX_EXPIRY_S

_IMPORT_ERROR = js.thing({"code": js.const("fileImportFailed"), "message": js.TEXT})


def form(dialect: Dialect) -> js.Schema:
    """The form of an upload: `expires_after` in OpenAI's spelling or in A2504's, with both of its fields."""
    seconds = {"type": "integer", "minimum": dialect.min_expiry_s, "maximum": MAX_EXPIRY_S}
    spellings = [("expires_after[anchor]", "expires_after[seconds]"), ("expires_after.anchor", "expires_after.seconds")]
    properties: js.Schema = {
        "purpose": {**js.words(sorted(dialect.purposes)), "description": "What the file is for."},
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


def file(dialect: Dialect) -> js.Schema:
    fields: dict[str, js.Schema | js.Maybe | js.Optional] = {
        "id": js.TEXT,
        "object": js.const("file"),
        "bytes": js.WHOLE,
        "created_at": js.UNIX,
        "filename": js.TEXT,
        "purpose": js.words(FilePurpose),
        "status": js.words(dialect.file_statuses.values()),
        "status_details": js.Optional(js.TEXT),
        "expires_at": js.Optional(js.UNIX),
    }
    if dialect.explains_files:
        fields["error"] = js.Optional(_IMPORT_ERROR)
    return js.thing(fields, dialect.keeps_null, "A file that was uploaded, or that a job wrote.")


def deleted(kind: str) -> js.Schema:
    return js.thing({"id": js.TEXT, "object": js.const(kind), "deleted": js.const(True)})
