"""What the buttons of a job's page do: pause, resume, cancel, delete."""

from starlette.responses import Response

from luthier.core.roles import Action
from luthier.portal.web.page import Page, post
from luthier.portal.web.visit import Visit
from luthier.service.jobs import jobs


def pause(visit: Visit) -> Response:
    """The job pauses after the step in progress."""
    return _moved(visit, jobs.pause(visit.context, visit.resource_id, visit.path_value("job_id")).id, "job_pausing")


def resume(visit: Visit) -> Response:
    """A paused job goes back into the queue."""
    return _moved(visit, jobs.resume(visit.context, visit.resource_id, visit.path_value("job_id")).id, "job_resumed")


def cancel(visit: Visit) -> Response:
    """The job is cancelled when this answers; its process is stopped right after."""
    return _moved(visit, jobs.cancel(visit.context, visit.resource_id, visit.path_value("job_id")).id, "job_cancelled")


def delete(visit: Visit) -> Response:
    """The job, its events, checkpoints and model are deleted; its files stay."""
    for checkpoint in jobs.delete(visit.context, visit.resource_id, visit.path_value("job_id")):
        visit.services.serving.discard(checkpoint)
    return visit.redirect("/jobs", notice="job_deleted")


def _moved(visit: Visit, job_id: str, notice: str) -> Response:
    """Wakes the supervisor to act on the job's process, and shows the job."""
    visit.services.wake()
    return visit.redirect(f"/jobs/{job_id}", notice=notice)


PAGES: tuple[Page, ...] = (
    post("/jobs/{job_id}/pause", Action.JOBS_WRITE, pause),
    post("/jobs/{job_id}/resume", Action.JOBS_WRITE, resume),
    post("/jobs/{job_id}/cancel", Action.JOBS_WRITE, cancel),
    post("/jobs/{job_id}/delete", Action.JOBS_WRITE, delete),
)
