"""What each route answers, in one table: for `GET /openapi.json` alone. A route without a row here fails a test.

A row's key is the method and the path below the dialect's prefix (`/deployments/{name}` in front of a data-plane path
is left away); paths of the control plane begin at `/accounts`. One row serves every dialect that has the route.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from luthier.api.dialects import Dialect
from luthier.api.schemas import (
    accounts,
    chat,
    deployments,
    errors,
    examples,
    files,
    jobs,
    models,
    sharing,
    uploads,
)
from luthier.api.schemas import json_schema as js
from luthier.api.schemas.json_schema import Schema

NOUNS: dict[str, Callable[[Dialect], Schema]] = {
    "file": files.file,
    "upload": uploads.upload,
    "part": uploads.part,
    "job": jobs.job,
    "event": jobs.event,
    "checkpoint": jobs.checkpoint,
    "attempt": jobs.attempt,
    "model": models.model,
    "permission": sharing.permission,
    "copies": sharing.copies,
    "deployment": deployments.data_plane_deployment,
    "completion": chat.completion,
    "chunk": chat.chunk,
    "text_completion": chat.text_completion,
    "error": errors.error,
}
"""The components of every dialect."""
ARM_NOUNS: dict[str, Callable[[], Schema]] = {"deployment": deployments.deployment, "error": errors.arm_error}


@dataclass(frozen=True, slots=True)
class One:
    """One noun of the dialect."""

    noun: str


@dataclass(frozen=True, slots=True)
class Page:
    """A list of a noun, a page of it at a time."""

    noun: str


@dataclass(frozen=True, slots=True)
class Raw:
    """Something that looks the same in every dialect."""

    schema: Schema


@dataclass(frozen=True, slots=True)
class Stream:
    """Server-sent events, each with a noun as JSON, or at last an error; then `[DONE]`."""

    noun: str


Answer = One | Page | Raw | Stream
JSON = "application/json"
SSE = "text/event-stream"
MULTIPART = "multipart/form-data"
RATE_HEADERS = tuple(
    f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")
)


@dataclass(frozen=True, slots=True)
class Operation:
    """`creates` answers with the dialect's status for new things; `also` are further answers by status, then by type.

    `errors` are statuses beyond those that follow from method, path and body; `form` is the multipart body where the
    route reads it itself; `example` is one of a JSON body; `parameters` are those that the route reads itself, or
    knows more of than FastAPI; `headers` are sent with the answers that are no errors.
    """

    says: str
    answers: Mapping[str, Answer]
    creates: bool = False
    status: int = 200
    also: Mapping[int, Mapping[str, Answer]] | None = None
    errors: tuple[int, ...] = ()
    form: Callable[[Dialect], Schema] | None = None
    example: dict[str, Any] | None = None
    parameters: tuple[Schema, ...] = ()
    headers: tuple[str, ...] = ()
    needs_key: bool = True


def _gives(says: str, answer: Answer, **more: Any) -> Operation:
    return Operation(says, {JSON: answer}, **more)


def _header(name: str, says: str) -> Schema:
    return {"name": name, "in": "header", "required": False, "schema": js.TEXT, "description": says}


_COPY = "/fine_tuning/jobs/{job_id}/checkpoints/{checkpoint_id}/copy"
_PERMISSIONS = "/fine_tuning/checkpoints/{checkpoint}/permissions"
_ARM_DEPLOYMENT = "/accounts/{account}/deployments/{name}"
_DEPLOYMENT = One("deployment")
_ALIVE = Raw(js.thing({"status": js.const("alive")}))
_READY = Raw(js.thing({"status": js.TEXT, "base_models": js.listed(js.TEXT)}))
_PUT_DEPLOYMENT = _gives(
    "Create a deployment, or give it another model or sku",
    _DEPLOYMENT,
    status=201,
    also={200: {JSON: _DEPLOYMENT}},
    example=examples.NEW_DEPLOYMENT,
)
_EVENTS = Operation(
    "List a job's events, newest first; with stream=true each as it comes, oldest first, until the job has ended",
    {JSON: Page("event"), SSE: Stream("event")},
)
_CHECKPOINTS = _gives("List a job's checkpoints, newest first", Page("checkpoint"))
_ASKED: dict[str, Any] = {"errors": (404, 503), "headers": RATE_HEADERS}
_BYTES: dict[str, Answer] = {"application/octet-stream": Raw(js.BYTES), "text/csv": Raw(js.BYTES)}
_PART_OF_BYTES: dict[str, Any] = {
    "errors": (416,),
    "parameters": (
        _header("Range", "`bytes=FIRST-LAST`: a part of the file."),
        _header("If-Range", "The part only if the ETag is still this one."),
    ),
    "headers": ("Accept-Ranges", "ETag"),
}
_METADATA: Schema = {
    "name": "metadata",
    "in": "query",
    "style": "deepObject",
    "explode": True,
    "schema": js.mapped(js.ANY),
    "description": "`metadata[KEY]=VALUE` for each pair that a job must carry; `metadata=null` for jobs without any.",
}

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("post", "/files"): _gives("Upload a file", One("file"), creates=True, form=files.form),
    ("post", "/files/import"): _gives("Import a file from a URL", One("file"), creates=True),
    ("get", "/files"): _gives("List files", Page("file")),
    ("get", "/files/{file_id}"): _gives("Get a file", One("file")),
    ("delete", "/files/{file_id}"): _gives("Delete a file", Raw(files.deleted("file"))),
    ("get", "/files/{file_id}/content"): Operation(
        "Get a file's bytes, or a part of them", _BYTES, also={206: _BYTES}, **_PART_OF_BYTES
    ),
    ("head", "/files/{file_id}/content"): Operation(
        "Look how many bytes a file has", {}, also={206: {}}, **_PART_OF_BYTES
    ),
    ("get", "/files/{file_id}/report"): _gives(
        "Get everything that was found in a training file, and what it amounts to", Raw(files.REPORT), errors=(400, 413)
    ),
    ("post", "/uploads"): _gives("Begin a file that comes in parts", One("upload")),
    ("post", "/uploads/{upload_id}/parts"): _gives(
        "Add a part; several at once, in any order", One("part"), form=lambda _: uploads.PART_FORM
    ),
    ("post", "/uploads/{upload_id}/complete"): _gives("Make a file of the parts, in the order given", One("upload")),
    ("post", "/uploads/{upload_id}/cancel"): _gives("Give an upload up", One("upload")),
    ("post", "/fine_tuning/jobs"): _gives(
        "Create a fine-tuning job", One("job"), creates=True, errors=(404,), example=examples.NEW_JOB
    ),
    ("get", "/fine_tuning/jobs"): _gives("List jobs, newest first", Page("job"), parameters=(_METADATA,)),
    ("get", "/fine_tuning/jobs/{job_id}"): _gives("Get a job", One("job")),
    ("post", "/fine_tuning/jobs/{job_id}/cancel"): _gives("Cancel a job", One("job")),
    ("post", "/fine_tuning/jobs/{job_id}/pause"): _gives("Pause a job; it can be resumed", One("job")),
    ("post", "/fine_tuning/jobs/{job_id}/resume"): _gives("Resume a paused job", One("job")),
    ("get", "/fine_tuning/jobs/{job_id}/events"): _EVENTS,
    ("post", "/fine_tuning/jobs/{job_id}/events"): _EVENTS,  # as some of Azure's pages show it
    ("get", "/fine_tuning/jobs/{job_id}/checkpoints"): _CHECKPOINTS,
    ("post", "/fine_tuning/jobs/{job_id}/checkpoints"): _CHECKPOINTS,
    ("delete", "/fine_tuning/jobs/{job_id}"): Operation("Delete a job and what it made", {}, status=204),
    ("get", "/fine_tuning/jobs/{job_id}/attempts"): _gives("List the starts of a job's trainer", Page("attempt")),
    ("post", _COPY): _gives(
        "Give another resource a copy of a checkpoint", One("copies"), parameters=(sharing.PREVIEW,)
    ),
    ("get", _COPY): _gives("List the copies of a checkpoint", One("copies"), parameters=(sharing.PREVIEW,)),
    ("post", _PERMISSIONS): _gives("Let other resources use a checkpoint", Page("permission")),
    ("get", _PERMISSIONS): _gives("List who else may use a checkpoint", Page("permission")),
    ("delete", _PERMISSIONS + "/{permission_id}"): _gives(
        "Take a permission back", Raw(files.deleted("checkpoint.permission"))
    ),
    ("get", "/models"): _gives("List models", Page("model")),
    ("get", "/models/{model_name}"): _gives("Get a model", One("model")),
    ("delete", "/models/{model_name}"): _gives("Delete a fine-tuned model", Raw(files.deleted("model"))),
    ("post", "/deployments"): _gives(
        "Create a deployment, under a name that is made for it", _DEPLOYMENT, creates=True
    ),
    ("get", "/deployments"): _gives("List deployments", Page("deployment")),
    ("get", "/deployments/{name}"): _gives("Get a deployment", _DEPLOYMENT),
    ("patch", "/deployments/{name}"): _gives("Give a deployment another model or scale", _DEPLOYMENT),
    ("delete", "/deployments/{name}"): Operation("Delete a deployment; its model stays", {}, status=204),
    ("post", "/chat/completions"): Operation(
        "Ask a model; whole, or with stream=true in pieces",
        {JSON: One("completion"), SSE: Stream("chunk")},
        example=examples.NEW_CHAT,
        **_ASKED,
    ),
    ("post", "/completions"): Operation(
        "Continue a text; whole, or with stream=true in pieces",
        {JSON: One("text_completion"), SSE: Stream("text_completion")},
        **_ASKED,
    ),
    ("put", _ARM_DEPLOYMENT): _PUT_DEPLOYMENT,
    ("post", _ARM_DEPLOYMENT): _PUT_DEPLOYMENT,
    ("get", _ARM_DEPLOYMENT): _gives("Get a deployment", _DEPLOYMENT),
    ("patch", _ARM_DEPLOYMENT): _gives("Give a deployment another sku or other tags", _DEPLOYMENT),
    ("delete", _ARM_DEPLOYMENT): Operation("Delete a deployment; its model stays", {}, also={204: {}}),
    ("get", "/accounts/{account}/deployments"): _gives(
        "List deployments; nextLink leads to the next page",
        Raw(deployments.deployments({"$ref": "#/components/schemas/arm.deployment"})),
    ),
    ("get", _ARM_DEPLOYMENT + "/skus"): _gives("List the skus that a deployment can have", Raw(accounts.SKUS)),
    ("get", "/accounts/{account}/skus"): _gives("List the skus of an account", Raw(accounts.SKUS)),
    ("post", "/accounts/{account}/listKeys"): Operation(
        "Always refused: keys are stored as hashes and cannot be shown again", {}, status=400
    ),
    ("post", "/accounts/{account}/regenerateKey"): _gives("Make a key anew", Raw(accounts.NEW_KEY)),
    ("get", "/accounts/{account}/usages"): _gives(
        "List what the quotas allow and how much is used", Raw(accounts.USAGES)
    ),
    ("get", "/locations/{location}/usages"): _gives("The same, by location", Raw(accounts.USAGES)),
    ("get", "/healthz"): _gives("Is the service alive?", _ALIVE, needs_key=False),
    ("get", "/readyz"): _gives("Can it take work?", _READY, also={503: {JSON: _READY}}, needs_key=False),
}
