"""One line of a file to be corrected by hand, and the corrected copy."""

import re

from starlette.responses import Response

from luthier.core.models import File
from luthier.core.roles import Action
from luthier.data.problems.problem import Problem
from luthier.portal.web.page import Page, get, post
from luthier.portal.web.visit import Visit
from luthier.service.files import data_reports, files, row_editing, shown_rows
from luthier.service.files.data_check import Rules

FOR_A_JOB = "job"
"""The value of `for` in the address if the assistant for a new job sent its user here."""


def show(visit: Visit) -> Response:
    """The line's text in a form, with its problems."""
    file = files.get(visit.context, visit.resource_id, visit.path_value("file_id"))
    number = _number(visit)
    files.check_trainable(file, "file_id")
    text = row_editing.read_line(visit.context, file, number)
    return visit.render(
        "row_edit.html",
        file=file,
        line=number,
        text=text,
        problems=_problems(file, visit, number, text),
        is_for_job=visit.query("for") == FOR_A_JOB,
        model=visit.query("model"),
    )


def create(visit: Visit) -> Response:
    """Stores the copy; the page of the file, or the new job with the copy chosen."""
    number = _number(visit)
    text = "" if visit.field("leave_out") else visit.field("text")
    made = row_editing.create_copy(visit.context, visit.resource_id, visit.path_value("file_id"), number, text)
    if visit.field("for") == FOR_A_JOB:
        model = {"model": visit.field("model")} if visit.field("model") else {}
        return visit.redirect("/jobs/new", training_file=made.id, notice="row_chosen", **model)
    return visit.redirect(f"/files/{made.id}", notice="row_edited")


def _number(visit: Visit) -> int:
    """The number of the line in the path; 0, which no line has, for any other text."""
    text = visit.path_value("line")
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else 0


def _problems(file: File, visit: Visit, number: int, text: str) -> list[Problem]:
    """What the doctor says of the line alone."""
    rules = Rules(data_reports.likely_method(visit.context, file))
    return shown_rows.problems(rules, number, text.encode())


PAGES: tuple[Page, ...] = (
    get("/files/{file_id}/lines/{line}", Action.FILES_WRITE, show),
    post("/files/{file_id}/lines/{line}", Action.FILES_WRITE, create),
)
