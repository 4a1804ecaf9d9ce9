"""/fine_tuning/jobs: create, get, list, cancel, pause, resume, delete, events, checkpoints, attempts."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from luthier.api import auth, event_stream, event_text
from luthier.api.bodies import JobBody
from luthier.api.dialects import Dialect
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest
from luthier.core.models import Principal
from luthier.service import jobs

Limit = Annotated[int, Query(ge=1, le=100)]


def add(router: APIRouter, dialect: Dialect, services: Services) -> None:
    context = services.context
    Caller = Annotated[Principal, Depends(auth.require_key(context))]

    @router.post("/fine_tuning/jobs", status_code=dialect.created_status)
    def create_job(request: Request, body: JobBody, caller: Caller) -> Response:
        job = jobs.create(
            context,
            caller.resource.id,
            jobs.JobRequest(
                model=body.model,
                training_file=body.training_file,
                validation_file=body.validation_file or None,
                hyperparameters=body.asked(),
                method=body.learns_by(),
                method_sent=body.method is not None,
                seed=body.seed,
                suffix=body.suffix,
                max_suffix=dialect.max_suffix,
                extras=body.extras(),
                notes=body.notes(),
            ),
        )
        services.wake()
        headers = {"Location": str(request.url.replace(path=f"{request.url.path}/{job.id}"))}
        return JSONResponse(dialect.job(job), dialect.created_status, headers if dialect.sends_location else None)

    @router.get("/fine_tuning/jobs")
    def list_jobs(request: Request, caller: Caller, after: str | None = None, limit: Limit = 20) -> dict[str, Any]:
        metadata = _metadata_filter(request.query_params.multi_items())
        found, more = jobs.list_page(context, caller.resource.id, after, limit, metadata)
        return dialect.page([dialect.job(job) for job in found], more)

    @router.get("/fine_tuning/jobs/{job_id}")
    def get_job(job_id: str, caller: Caller) -> dict[str, Any]:
        return dialect.job(jobs.get(context, caller.resource.id, job_id))

    _add_changes(router, dialect, services)
    _add_parts(router, dialect, services)


def _add_changes(router: APIRouter, dialect: Dialect, services: Services) -> None:
    """What is done to a job that is there."""
    context = services.context
    Caller = Annotated[Principal, Depends(auth.require_key(context))]

    @router.post("/fine_tuning/jobs/{job_id}/cancel")
    def cancel_job(job_id: str, caller: Caller) -> dict[str, Any]:
        job = jobs.cancel(context, caller.resource.id, job_id)
        services.wake()
        return dialect.job(job)

    @router.post("/fine_tuning/jobs/{job_id}/pause")
    def pause_job(job_id: str, caller: Caller) -> dict[str, Any]:
        job = jobs.pause(context, caller.resource.id, job_id)
        services.wake()
        return dialect.job(job)

    @router.post("/fine_tuning/jobs/{job_id}/resume")
    def resume_job(job_id: str, caller: Caller) -> dict[str, Any]:
        job = jobs.resume(context, caller.resource.id, job_id)
        services.wake()
        return dialect.job(job)

    @router.delete("/fine_tuning/jobs/{job_id}", status_code=204)
    def delete_job(job_id: str, caller: Caller) -> Response:
        for checkpoint in jobs.delete(context, caller.resource.id, job_id):
            services.serving.discard(checkpoint)
        return Response(status_code=204)


def _add_parts(router: APIRouter, dialect: Dialect, services: Services) -> None:
    """Lists of what belongs to a job."""
    context = services.context
    Caller = Annotated[Principal, Depends(auth.require_key(context))]

    # Documents show POST for events and checkpoints where GET is meant (contract section 9).
    @router.get("/fine_tuning/jobs/{job_id}/events", response_model=None)
    @router.post("/fine_tuning/jobs/{job_id}/events", response_model=None)
    def list_events(
        job_id: str, caller: Caller, after: str | None = None, limit: Limit = 20, stream: bool = False
    ) -> Response:
        found, more = jobs.list_events(context, caller.resource.id, job_id, after, limit)
        if stream:
            sent = event_stream.events(context, dialect, caller.resource.id, job_id, after)
            return StreamingResponse(sent, media_type="text/event-stream", headers={"cache-control": "no-cache"})
        return Response(event_text.page(dialect, found, more), media_type="application/json")

    @router.get("/fine_tuning/jobs/{job_id}/checkpoints")
    @router.post("/fine_tuning/jobs/{job_id}/checkpoints")
    def list_checkpoints(job_id: str, caller: Caller, after: str | None = None, limit: Limit = 10) -> dict[str, Any]:
        found, more = jobs.list_checkpoints(context, caller.resource.id, job_id, after, limit)
        return dialect.page([dialect.checkpoint(checkpoint) for checkpoint in found], more)

    @router.get("/fine_tuning/jobs/{job_id}/attempts")
    def list_attempts(job_id: str, caller: Caller, after: str | None = None, limit: Limit = 20) -> dict[str, Any]:
        found, more = jobs.list_attempts(context, caller.resource.id, job_id, after, limit)
        return dialect.page([dialect.attempt(attempt) for attempt in found], more)


def _metadata_filter(query: list[tuple[str, str]]) -> dict[str, str] | None:
    """`metadata[k]=v` for each pair that a job must carry, `metadata=null` (None here) for jobs that carry none."""
    pairs = {found[1]: value for key, value in query if (found := re.fullmatch(r"metadata\[(.*)\]", key))}
    whole = [value for key, value in query if key == "metadata"]
    if not whole or set(whole) <= {"", "{}"}:
        return pairs
    if pairs or set(whole) != {"null"}:
        raise InvalidRequest(
            "invalid_metadata_filter",
            "Filter by metadata[key]=value, once for each pair, or by metadata=null for jobs without metadata.",
            "metadata",
        )
    return None
