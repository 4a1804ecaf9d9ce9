"""Files as the wire shows them, and the form that brings one."""

from luthier.api.dialects import Dialect
from luthier.api.schemas import json_schema as js
from luthier.core.states import FilePurpose, Method
from luthier.data.problem import Severity
from luthier.service.files import MAX_EXPIRY_S

_IMPORT_ERROR = js.thing({"code": js.const("fileImportFailed"), "message": js.TEXT})


_LINE = js.or_null(js.WHOLE)
_SPREAD = js.thing({"total": js.WHOLE, "median": js.WHOLE, "p95": js.WHOLE, "longest": js.WHOLE, "longest_line": _LINE})
_PROBLEM = js.thing(
    {
        "line": _LINE,
        "path": js.TEXT,
        "code": js.TEXT,
        "severity": js.words(Severity),
        "message": js.TEXT,
        "fix": js.TEXT,
    }
)
_COUNTS = ("rows", "good_rows", "warned_rows", "bad_rows", "errors", "warnings", "messages")
_TOKENS = js.thing({"tokens": _SPREAD, "supervised": _SPREAD, "context_tokens": js.WHOLE, "too_long": js.WHOLE})
_RUN = js.thing(
    dict.fromkeys(("n_epochs", "batch_size", "n_steps", "trained_tokens", "supervised_tokens"), js.WHOLE)
    | {"learning_rate_multiplier": js.NUMBER, "peak_memory_bytes": js.or_null(js.WHOLE)}
    | dict.fromkeys(("seconds", "price"), js.or_null(js.NUMBER))
    | dict.fromkeys(("basis", "currency"), js.or_null(js.TEXT)),
    says="What a job with hyperparameters of the service's choice would come to on this machine.",
)
REPORT = js.thing(
    {
        "object": js.const("file.report"),
        "file_id": js.TEXT,
        "created_at": js.UNIX,
        "method": js.words(Method),
        "model": js.or_null(js.TEXT),
        "valid": js.FLAG,
        "problems": js.listed(_PROBLEM),
        "statistics": js.thing(
            dict.fromkeys((*_COUNTS, "rows_with_system", "rows_with_tools"), js.WHOLE)
            | {"characters": _SPREAD, "answer_characters": _SPREAD, "scripts": js.mapped(js.WHOLE)}
            | {"tokens": js.or_null(_TOKENS), "run": js.or_null(_RUN)}
        ),
    },
    says="Everything that was found in a file: problems by line, and what the file amounts to.",
)
"""The same in every dialect: it is our own noun."""


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
