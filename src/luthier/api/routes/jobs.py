"""/fine_tuning/jobs: create, get, list, cancel, pause, resume, delete, events, checkpoints, attempts."""

import re
from typing import Annotated

from fastapi import Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from luthier.api.auth import authentication
from luthier.api.dialects import answer
from luthier.api.dialects.dialects import Dialect
from luthier.api.dialects.job_record_answers import CheckpointAnswer
from luthier.api.requests import job_fields
from luthier.api.requests.file_and_job_bodies import JobBody
from luthier.api.routing import json_schema as js
from luthier.api.routing.json_response import JsonResponse
from luthier.api.routing.operation import JSON, NO_CONTENT, SSE, EventStreamOf, PageOf, Reply, json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.api.streaming import event_stream
from luthier.core.errors import InvalidRequest
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.service.jobs import job_creation, jobs

Limit = Annotated[int, Query(ge=1, le=100)]
_PAIR = re.compile(r"metadata\[(.*)\]", re.DOTALL)
_METADATA: js.Schema = {
    "name": "metadata",
    "in": "query",
    "style": "deepObject",
    "explode": True,
    "schema": js.mapped(js.ANY),
    "description": "`metadata[KEY]=VALUE` for each pair that a job must have; `metadata=null` for jobs without any.",
}
_EXAMPLE = {
    "model": "smollm2-135m-instruct",
    "training_file": "file-" + "1" * 32,
    "hyperparameters": {"n_epochs": 2},
    "seed": 105,
}


def add_routes(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the dialect's routes of jobs and of what belongs to them."""
    _add_creation(router, dialect, services)
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]

    @router.get(
        "/fine_tuning/jobs",
        Action.JOBS_READ,
        "List jobs, newest first",
        json_reply(PageOf(dialect.job)),
        parameters=(_METADATA,),
    )
    def list_jobs(request: Request, caller: Caller, after: str | None = None, limit: Limit = 20) -> object:
        """`after` is the last id of the page before."""
        metadata = _metadata_filter(request.query_params.multi_items())
        page, has_more = jobs.list_page(context, caller.resource.id, after, limit, metadata)
        return answer.page([dialect.job.from_job(job) for job in page], has_more)

    @router.get("/fine_tuning/jobs/{job_id}", Action.JOBS_READ, "Get a job", json_reply(dialect.job))
    def get_job(job_id: str, caller: Caller) -> object:
        return dialect.job.from_job(jobs.get(context, caller.resource.id, job_id))

    _add_changes(router, dialect, services)
    _add_events(router, dialect, services)
    _add_records(router, dialect, services)


def _add_creation(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds POST /fine_tuning/jobs."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]
    location = ("Location",) if dialect.sends_location else ()

    @router.post(
        "/fine_tuning/jobs",
        Action.JOBS_WRITE,
        "Create a fine-tuning job",
        json_reply(dialect.job, dialect.created_status, required_headers=location),
        errors=(404,),
        example=_EXAMPLE,
    )
    def create_job(request: Request, body: JobBody, caller: Caller) -> Response:
        """The rows of its files are checked in the background: a fault there fails the job."""
        job = job_creation.create(context, caller.resource.id, body.to_request(dialect.max_suffix))
        services.wake()
        headers = {"Location": str(request.url.replace(path=f"{request.url.path}/{job.id}"))}
        return JsonResponse(
            dialect.job.from_job(job), dialect.created_status, headers if dialect.sends_location else None
        )


def _add_changes(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds cancel, pause, resume and delete. The supervisor is woken to act on the job's process."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]
    job_reply = json_reply(dialect.job)

    @router.post("/fine_tuning/jobs/{job_id}/cancel", Action.JOBS_WRITE, "Cancel a job", job_reply)
    def cancel_job(job_id: str, caller: Caller) -> object:
        """The job is cancelled when this answers; its process is stopped right after. 409 if it has ended."""
        job = jobs.cancel(context, caller.resource.id, job_id)
        services.wake()
        return dialect.job.from_job(job)

    @router.post("/fine_tuning/jobs/{job_id}/pause", Action.JOBS_WRITE, "Pause a job; it can be resumed", job_reply)
    def pause_job(job_id: str, caller: Caller) -> object:
        """A running job pauses after the step in progress, with its state saved; 409 for any other."""
        job = jobs.pause(context, caller.resource.id, job_id)
        services.wake()
        return dialect.job.from_job(job)

    @router.post("/fine_tuning/jobs/{job_id}/resume", Action.JOBS_WRITE, "Resume a paused job", job_reply)
    def resume_job(job_id: str, caller: Caller) -> object:
        """A paused job goes back into the queue and continues where it stopped; 409 for any other."""
        job = jobs.resume(context, caller.resource.id, job_id)
        services.wake()
        return dialect.job.from_job(job)

    @router.delete(
        "/fine_tuning/jobs/{job_id}", Action.JOBS_WRITE, "Delete a job, its events, checkpoints and model", NO_CONTENT
    )
    def delete_job(job_id: str, caller: Caller) -> Response:
        """Its files, results.csv among them, are kept. 409 if it has not ended or a deployment uses its model."""
        for checkpoint in jobs.delete(context, caller.resource.id, job_id):
            services.serving.discard(checkpoint)
        services.job_metrics.forget(job_id)
        return Response(status_code=204)


def _add_events(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the events of a job, as a page or as a stream."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]

    # Documents show POST for events and checkpoints instead of GET (wire-contract.md section 9).
    @router.route(
        ("GET", "POST"),
        "/fine_tuning/jobs/{job_id}/events",
        Action.JOBS_READ,
        "List a job's events, newest first; with stream=true stream them, oldest first, until the job has ended",
        Reply(content={JSON: PageOf(dialect.event), SSE: EventStreamOf(dialect.event)}),
    )
    def list_events(
        request: Request, job_id: str, caller: Caller, after: str | None = None, limit: Limit = 20, stream: bool = False
    ) -> object:
        """`limit` is that of a page.

        A stream begins after the event `after`, or with the first; its last line is `data: [DONE]`.
        """
        page, has_more = jobs.list_events(context, caller.resource.id, job_id, after, limit)
        if stream:
            credentials = authentication.credentials_of(request)
            lines = event_stream.lines(context, services.event_feed, dialect, credentials, job_id, after)
            return StreamingResponse(lines, media_type=SSE, headers={"cache-control": "no-cache"})
        return answer.page([dialect.event.from_event(event) for event in page], has_more)


def _add_records(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the checkpoints and attempts of a job. They only read; Azure documents POST for checkpoints."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]

    @router.route(
        ("GET", "POST"),
        "/fine_tuning/jobs/{job_id}/checkpoints",
        Action.JOBS_READ,
        "List a job's checkpoints, newest first",
        json_reply(PageOf(CheckpointAnswer)),
    )
    def list_checkpoints(job_id: str, caller: Caller, after: str | None = None, limit: Limit = 10) -> object:
        """`after` is the last id of the page before. A job without any yet has an empty list."""
        page, has_more = jobs.list_checkpoints(context, caller.resource.id, job_id, after, limit)
        return answer.page([CheckpointAnswer.from_checkpoint(checkpoint) for checkpoint in page], has_more)

    @router.get(
        "/fine_tuning/jobs/{job_id}/attempts",
        Action.JOBS_READ,
        "List the starts of a job's trainer",
        json_reply(PageOf(dialect.attempt)),
    )
    def list_attempts(job_id: str, caller: Caller, after: str | None = None, limit: Limit = 20) -> object:
        """Newest first; `after` is the last id of the page before. A job that has not begun has an empty list."""
        page, has_more = jobs.list_attempts(context, caller.resource.id, job_id, after, limit)
        return answer.page([dialect.attempt.from_attempt(attempt) for attempt in page], has_more)


def _metadata_filter(query: list[tuple[str, str]]) -> dict[str, str] | None:
    """`metadata[k]=v` for each pair that a job must carry, `metadata=null` (None here) for jobs that carry none.

    Empty: jobs are not filtered. Raises InvalidRequest: each pair is a further table in the query, so what no job can
    carry is refused before one is written.
    """
    pairs = {found[1]: value for key, value in query if (found := _PAIR.fullmatch(key))}
    whole = [value for key, value in query if key == "metadata"]
    if not whole or set(whole) <= {"", "{}"}:
        try:
            return job_fields.checked_metadata(pairs)
        except ValueError as error:
            text = f"The filter by metadata {error}, as with a job's own metadata."
            raise InvalidRequest("invalid_metadata_filter", text, "metadata") from error
    if pairs or set(whole) != {"null"}:
        raise InvalidRequest(
            "invalid_metadata_filter",
            "Filter by metadata[key]=value, once for each pair, or by metadata=null for jobs without metadata.",
            "metadata",
        )
    return None
