"""What each route answers, in one table: for `GET /openapi.json` alone. A route without a row here fails a test.

A row's key is the method and the path below the dialect's prefix (`/deployments/{name}` in front of a data-plane path
is left away); paths of the control plane begin at `/accounts`. One row serves every dialect that has the route.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from luthier.api.dialects import Dialect
from luthier.api.schemas import chat, deployments, errors, examples, files, jobs, models
from luthier.api.schemas import json_schema as js
from luthier.api.schemas.json_schema import Schema

NOUNS: dict[str, Callable[[Dialect], Schema]] = {
    "file": files.file,
    "job": jobs.job,
    "event": jobs.event,
    "checkpoint": jobs.checkpoint,
    "attempt": jobs.attempt,
    "model": models.model,
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
    """Something that looks the same in every dialect; None is an answer without a body."""

    schema: Schema | None


Answer = One | Page | Raw
JSON = "application/json"
SSE = "text/event-stream"
MULTIPART = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Operation:
    """`creates` answers with the dialect's status for new things; `also` are further answers by status.

    `errors` are statuses beyond those that follow from method, path and body; `body` is the request body where the
    route reads it itself, by content type; `example` is one of a JSON body.
    """

    says: str
    answers: Mapping[str, Answer]
    creates: bool = False
    status: int = 200
    also: Mapping[int, Answer] | None = None
    errors: tuple[int, ...] = ()
    body: Mapping[str, Schema] | None = None
    example: dict[str, Any] | None = None
    needs_key: bool = True


def _gives(says: str, answer: Answer, **more: Any) -> Operation:
    return Operation(says, {JSON: answer}, **more)


_DEPLOYMENT = One("deployment")
_ALIVE = Raw(js.thing({"status": js.const("alive")}))
_READY = Raw(js.thing({"status": js.TEXT, "base_models": js.listed(js.TEXT)}))
_PUT_DEPLOYMENT = _gives(
    "Create a deployment, or give it another model or sku",
    _DEPLOYMENT,
    status=201,
    also={200: _DEPLOYMENT},
    example=examples.NEW_DEPLOYMENT,
)
_EVENTS = _gives("List a job's events, newest first", Page("event"))
_CHECKPOINTS = _gives("List a job's checkpoints, newest first", Page("checkpoint"))
_CHAT = Operation(
    "Ask a model; whole, or with stream=true in pieces",
    {JSON: One("completion"), SSE: Raw(js.TEXT)},
    errors=(404, 503),
    example=examples.NEW_CHAT,
)

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("post", "/files"): _gives("Upload a file", One("file"), creates=True, body={MULTIPART: files.FORM}),
    ("post", "/files/import"): _gives("Import a file from a URL", One("file"), creates=True),
    ("get", "/files"): _gives("List files", Page("file")),
    ("get", "/files/{file_id}"): _gives("Get a file", One("file")),
    ("delete", "/files/{file_id}"): _gives("Delete a file", Raw(files.deleted("file"))),
    ("get", "/files/{file_id}/content"): Operation(
        "Get a file's bytes", {"application/octet-stream": Raw(js.BYTES), "text/csv": Raw(js.BYTES)}
    ),
    ("post", "/fine_tuning/jobs"): _gives(
        "Create a fine-tuning job", One("job"), creates=True, errors=(404,), example=examples.NEW_JOB
    ),
    ("get", "/fine_tuning/jobs"): _gives("List jobs, newest first", Page("job")),
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
    ("get", "/models"): _gives("List models", Page("model")),
    ("get", "/models/{model_name}"): _gives("Get a model", One("model")),
    ("delete", "/models/{model_name}"): _gives("Delete a fine-tuned model", Raw(files.deleted("model"))),
    ("post", "/chat/completions"): _CHAT,
    ("post", "/completions"): Operation(
        "Continue a text; whole, or with stream=true in pieces",
        {JSON: One("text_completion"), SSE: Raw(js.TEXT)},
        errors=(404, 503),
    ),
    ("put", "/accounts/{account}/deployments/{name}"): _PUT_DEPLOYMENT,
    ("post", "/accounts/{account}/deployments/{name}"): _PUT_DEPLOYMENT,
    ("get", "/accounts/{account}/deployments/{name}"): _gives("Get a deployment", _DEPLOYMENT),
    ("delete", "/accounts/{account}/deployments/{name}"): Operation(
        "Delete a deployment; its model stays", {}, also={204: Raw(None)}
    ),
    ("get", "/accounts/{account}/deployments"): _gives(
        "List deployments", Raw(deployments.deployments({"$ref": "#/components/schemas/arm.deployment"}))
    ),
    ("get", "/healthz"): _gives("Is the service alive?", _ALIVE, needs_key=False),
    ("get", "/readyz"): _gives("Can it take work?", _READY, also={503: _READY}, needs_key=False),
}
